"""Decodes Server-Sent Events from any stream that follows the standard; no sockets.

The standard is the HTML Living Standard, section 9.2, quoted as [spec].
"""

from codecs import BOM_UTF8
from typing import NamedTuple


class Message(NamedTuple):
    """What a client's listener sees: [spec] MessageEvent's type, data and lastEventId."""

    event: str
    data: bytes
    id: str


class MessageTooLarge(ValueError):
    """An event grew past the decoder's limit without an end."""


class Decoder:
    """Turns the bytes of a stream, cut anywhere, into messages.

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
        """Like `feed`, but returns only the messages' data."""
        if (
            chunk.startswith(b"data: ")
            and chunk.endswith(b"\n\n")
            and not (self._rest or self._data or self._skip_lf or b"\r" in chunk)
            and len(chunk) <= self._limit
        ):
            lines = chunk[6:-2].split(b"\n\ndata: ")
            if chunk.count(b"\n") == 2 * len(lines):
                # Whole events of one data line each, as most servers send most of the time.
                self._event = ""
                self._begun = True
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
