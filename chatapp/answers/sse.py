"""Encodes Server-Sent Events, and decodes our own; no sockets.

The standard is the HTML Living Standard, section 9.2, quoted as [spec]. We write the subset that
all clients read alike: UTF-8, lines that end in LF, one `data:` line per event. `id:` is the last
line: some clients move their cursor as soon as they have read it. A blank line only ends an event:
some clients dispatch one without data at any other.
"""

import re
from collections.abc import Mapping
from typing import Final

from .events import DELTAS, Event, EventType

RETRY: Final = b"retry: 1000\n"
"""The first bytes of every stream: a client waits this many milliseconds before it reconnects."""
COME_BACK: Final = b"retry: 200\n"
"""The last bytes of a stream that continues on another worker."""
KEEP_ALIVE: Final = b": keep-alive\n"
HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "private, no-store, no-transform",
    "X-Accel-Buffering": "no",
}

_PREFIXES: Final = {
    kind: b"data: " if kind is EventType.TEXT else b"event: %b\ndata: " % kind.encode()
    for kind in EventType
}
DELTA_FORMATS: Final = {kind: b'%b{"text":%%b}\nid: %%d\n\n' % _PREFIXES[kind] for kind in DELTAS}
"""A piece of text or reasoning as `encode` writes it, of its text as JSON and its number."""


def encode(event: Event) -> bytes:
    """One event in wire format."""
    number, kind, data = event
    return b"%b%b\nid: %d\n\n" % (_PREFIXES[kind], data, number)


def encode_named(event: str, data: bytes, event_id: str) -> bytes:
    """A push event. `event` and `event_id` must not contain line breaks; `data` is one line."""
    return b"event: %b\ndata: %b\nid: %b\n\n" % (event.encode(), data, event_id.encode())


def decode_frame(frame: bytes, number: int) -> Event:
    """The event that `encode` turned into these bytes."""
    head, _, rest = frame.partition(b"data: ")
    kind = EventType(head[len(b"event: ") : -1].decode()) if head else EventType.TEXT
    return Event(number, kind, rest[: rest.index(b"\n")])


def decode_frames(wire: bytes, first: int) -> list[Event]:
    """The events that `encode` turned into these bytes; `first` is the first one's number."""
    # Blank lines occur only between events, since data is a single line.
    frames = wire.split(b"\n\n")[:-1]
    return [decode_frame(frame, first + i) for i, frame in enumerate(frames)]


def parse_cursor(header: str | None, query: str | None) -> int | None:
    """The number of the last event that a client has; the header takes precedence.

    :returns: 0 if the client names none. None if it names something that can't be our number: it
        then needs a snapshot, because we can't know what it has.
    """
    given = header or query
    if not given:
        return 0
    return int(given) if _NUMBER.fullmatch(given) else None


_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
