"""Values for how far an answer is and how it ended; no I/O."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from ..errors import ChatAppError
from .events import EventType

ID_LENGTH: Final = 16
"""Characters of an answer's id: 96 random bits, URL-safe."""


class Status(StrEnum):
    """A phase in the life of an answer."""

    PENDING = "pending"
    STREAMING = "streaming"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


TRANSITIONS: Final = {
    Status.PENDING: frozenset({Status.STREAMING, Status.FAILED, Status.STOPPED}),
    Status.STREAMING: frozenset({Status.DONE, Status.FAILED, Status.STOPPED}),
    Status.DONE: frozenset[Status](),
    Status.FAILED: frozenset[Status](),
    Status.STOPPED: frozenset[Status](),
}
RUNNING: Final = frozenset({Status.PENDING, Status.STREAMING})
"""The statuses of a running answer; all others are final."""


class Transcript(NamedTuple):
    """The text of an answer up to and including event `number`."""

    number: int
    text: str
    reasoning: str

    def of(self, kind: EventType) -> str:
        """The text or the reasoning."""
        return self.reasoning if kind is EventType.REASONING else self.text

    def fields(self) -> dict[str, str]:
        """Its part of a `snapshot` event's data."""
        return {"text": self.text, "reasoning": self.reasoning}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an answer ended, apart from its status; all None while it runs."""

    finish_reason: str | None = None
    """`stop`, `length`, `content_filter` or `stopped`."""
    usage: dict[str, int] | None = None
    """Token counts, by OpenAI's names."""
    usage_source: str | None = None
    """Where `usage` comes from: `provider` or `estimated`."""
    error: ChatAppError | None = None

    def done_fields(self) -> dict[str, Any]:
        """The data of a `done` event."""
        return {
            "finish_reason": self.finish_reason,
            "usage": self.usage,
            "usage_source": self.usage_source,
        }

    def fields(self) -> dict[str, Any]:
        """All fields, as JSON."""
        return self.done_fields() | {"error": self.error.fields() if self.error else None}
