"""The entries of an answer's log: what they are called, and what they carry.

The standard is docs/protocol.md, "The event stream". An event's data is JSON in UTF-8, encoded once
when the event is made; every log and every reader passes these bytes on.
"""

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
encode_text = msgspec.json.Encoder().encode
"""A string as JSON in UTF-8. msgspec writes no raw line break, so the result is one SSE line."""


def delta_data(text: str) -> bytes:
    """The data of a piece."""
    return b'{"text":%b}' % encode_text(text)


def event_data(fields: Mapping[str, Any]) -> bytes:
    """The data of any event, as JSON."""
    return msgspec.json.encode(fields)


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
