"""The entries of an answer's log: what they are called, and what they carry.

The standard is docs/protocol.md, "The event stream". An event's data is JSON in UTF-8, encoded once
when the event is made; every log and every reader passes these bytes on.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec


class EventType(StrEnum):
    """The value is the `event:` field on the wire; `TEXT` goes unnamed there."""

    START = "start"
    TEXT = "message"
    REASONING = "reasoning"
    TOOL = "tool"
    SNAPSHOT = "snapshot"
    DONE = "done"
    FAILED = "failed"


TERMINAL: Final = frozenset({EventType.DONE, EventType.FAILED})
"""Nothing follows one of these."""
DELTAS: Final = frozenset({EventType.TEXT, EventType.REASONING})
"""Their data is `{"text": …}`; neighbours of one type may be joined."""


class Event(NamedTuple):
    """One entry. `number` counts from 1 within its answer; `data` is JSON in UTF-8, one line."""

    number: int
    type: EventType
    data: bytes

    @property
    def text(self) -> str:
        """The text of a piece."""
        return _decode_delta(self.data).text

    def fields(self) -> dict[str, Any]:
        """The data, decoded."""
        fields: dict[str, Any] = msgspec.json.decode(self.data)
        return fields


class Delta(msgspec.Struct, gc=False):
    """The data of a `TEXT` or `REASONING` event."""

    text: str


_decode_delta = msgspec.json.Decoder(Delta).decode
encode_json = msgspec.json.Encoder().encode
"""Anything as JSON in UTF-8, without a raw line break as SSE has it; `one_line` does the rest."""
_BREAKS: Final = re.compile(rb"\xe2\x80[\xa8\xa9]|\xc2\x85")


def one_line(data: bytes) -> bytes:
    """The same JSON with U+2028, U+2029 and U+0085 escaped: clients in Python end lines there."""
    if data.isascii():
        return data
    return _BREAKS.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), data)


def delta_data(text: str) -> bytes:
    """The data of a piece."""
    return b'{"text":%b}' % one_line(encode_json(text))


def event_data(fields: Mapping[str, Any]) -> bytes:
    """The data of any event, as JSON."""
    return one_line(encode_json(fields))


def start_event(
    answer_id: str, conversation_id: str | None, model: str | None, created_at: datetime
) -> Event:
    """An answer's event 1."""
    fields = {
        "answer_id": answer_id,
        "conversation_id": conversation_id,
        "model": model,
        "created_at": timestamp(created_at),
    }
    return Event(1, EventType.START, event_data(fields))


def timestamp(moment: datetime) -> str:
    """RFC 3339, in UTC, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
