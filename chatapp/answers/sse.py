"""Server-Sent Events as bytes in and bytes out; no sockets.

The standard is the HTML Living Standard, section 9.2, quoted as [spec]. What is written here is the
subset that every client reads alike: UTF-8, lines that end in LF, one `data:` line an event.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Mapping
from typing import Final, NamedTuple

from .events import PIECES, Event, EventType

RETRY: Final = b"retry: 1000\n\n"
"""The first bytes of every stream: a client waits this many milliseconds before it reconnects."""
COME_BACK: Final = b"retry: 200\n\n"
"""The last bytes of a stream that goes on elsewhere."""
KEEP_ALIVE: Final = b": keep-alive\n\n"
HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
LAST_EVENT_ID_MAX_BYTES: Final = 128
"""[fetch] A longer `Last-Event-ID` is not CORS-safelisted."""

_PREFIXES: Final = {
    kind: b"\ndata: " if kind is EventType.TEXT else b"\nevent: %b\ndata: " % kind.encode()
    for kind in EventType
}
PIECE_FORMATS: Final = {kind: b'id: %%d%b{"text":%%b}\n\n' % _PREFIXES[kind] for kind in PIECES}
"""A piece of text or reasoning as `encode` writes it, of its number and its text as JSON."""


def encode(event: Event) -> bytes:
    """One event as it goes over the wire."""
    number, kind, data = event
    return b"id: %d%b%b\n\n" % (number, _PREFIXES[kind], data)


def encode_named(event: str, data: bytes, event_id: str) -> bytes:
    """A push event. `event` and `event_id` must hold no line break, `data` is one line."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), event.encode(), data)


def decode_frame(frame: bytes, number: int) -> Event:
    """The event that `encode` made these bytes of."""
    head, _, data = frame.partition(b"\ndata: ")
    _, _, kind = head.partition(b"\nevent: ")
    return Event(number, EventType(kind.decode()) if kind else EventType.TEXT, data[:-2])


def decode_frames(wire: bytes, first: int) -> list[Event]:
    """The events that `encode` made these bytes of; `first` is the number of the first one."""
    # What ends an event is nowhere inside one: its data is a single line.
    frames = wire.split(b"\n\n")[:-1]
    return [decode_frame(frame + b"\n\n", first + i) for i, frame in enumerate(frames)]


def parse_cursor(header: str | None, query: str | None) -> int | None:
    """The number of the last event that a client has; the header wins over the query.

    :returns: 0 when the client names none, None when it names something that never was a number
        of ours: it then needs a snapshot, for nobody knows what it has.
    """
    given = header or query
    if not given:
        return 0
    return int(given) if _NUMBER.fullmatch(given) else None


_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


class Message(NamedTuple):
    """What a client's listener sees: [spec] MessageEvent's type, data and lastEventId."""

    event: str
    data: bytes
    id: str


class MessageTooLarge(ValueError):
    """An event grew past the decoder's limit without an end."""


class Decoder:
    """Bytes of a stream, cut anywhere, to messages.

    :param limit: bytes that one event may have.
    """

    __slots__ = (
        "_begun",
        "_data",
        "_event",
        "_id",
        "_limit",
        "_pending",
        "_rest",
        "_size",
        "_skip_lf",
    )

    def __init__(self, limit: int = 8 << 20) -> None:
        self._limit = limit
        self._rest: list[bytes] = []
        self._pending = 0
        self._size = 0
        self._data: list[bytes] = []
        self._event = ""
        self._id = ""
        self._skip_lf = False
        self._begun = False

    def feed(self, chunk: bytes) -> list[Message]:
        """The messages that these bytes complete.

        :raises MessageTooLarge: when an event is longer than the limit.
        """
        if self._skip_lf and chunk:
            # [spec] CRLF is one line end; its CR came with the bytes before and has ended the line.
            self._skip_lf = False
            if chunk[0] == 0x0A:
                chunk = chunk[1:]
        end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) + 1
        if not end:
            self._keep(chunk)
            return []
        self._skip_lf = chunk[end - 1] == 0x0D and end == len(chunk)
        complete = chunk[:end]
        if self._rest:
            complete = b"".join((*self._rest, complete))
            self._rest, self._pending = [], 0
        messages: list[Message] = []
        for line in complete.splitlines():
            self._line(line, messages)
        self._keep(chunk[end:])
        return messages

    def feed_data(self, chunk: bytes) -> list[bytes]:
        """As `feed`, only the data of the messages."""
        if (
            chunk.startswith(b"data: ")
            and chunk.endswith(b"\n\n")
            and not (self._rest or self._data or self._skip_lf or b"\r" in chunk)
            and len(chunk) <= self._limit
        ):
            lines = chunk[6:-2].split(b"\n\ndata: ")
            if chunk.count(b"\n") == 2 * len(lines):
                # Whole events of one line each, as they come from most servers most of the time.
                self._event = ""
                return lines
        return [message.data for message in self.feed(chunk)]

    def flush(self) -> list[Message]:
        """What an end of the stream without a blank line would lose; [spec] says to drop it."""
        messages: list[Message] = []
        for line in b"".join(self._rest).splitlines():
            self._line(line, messages)
        self._line(b"", messages)
        self._rest, self._pending = [], 0
        return messages

    def _keep(self, part: bytes) -> None:
        if part:
            self._rest.append(part)
            self._pending += len(part)
            self._check_size()

    def _check_size(self) -> None:
        if self._pending + self._size > self._limit:
            raise MessageTooLarge(f"An event is longer than {self._limit} bytes.")

    def _line(self, line: bytes, messages: list[Message]) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(BOM_UTF8)  # [spec] one leading byte order mark is ignored
        if not line:
            if self._data:  # [spec] an event without data is not dispatched
                data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                messages.append(Message(self._event or "message", data, self._id))
                self._data, self._size = [], 0
            self._event = ""
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value) + 1  # The line end counts: there may be many empty lines.
            self._check_size()
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
