"""Server-Sent Events as bytes out, and our own as events again; no sockets.

The standard is the HTML Living Standard, section 9.2, quoted as [spec]. What is written here is the
subset that every client reads alike: UTF-8, lines that end in LF, one `data:` line an event.
"""

import re
from collections.abc import Mapping
from typing import Final

from .events import DELTAS, Event, EventType

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
MAX_LAST_EVENT_ID_BYTES: Final = 128
"""[fetch] A longer `Last-Event-ID` is not CORS-safelisted."""

_PREFIXES: Final = {
    kind: b"\ndata: " if kind is EventType.TEXT else b"\nevent: %b\ndata: " % kind.encode()
    for kind in EventType
}
DELTA_FORMATS: Final = {kind: b'id: %%d%b{"text":%%b}\n\n' % _PREFIXES[kind] for kind in DELTAS}
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
