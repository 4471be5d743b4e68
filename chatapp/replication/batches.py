"""What one flush of the journal writes."""

import time
from dataclasses import dataclass, field

from ..answers.answer import Answer
from ..answers.outcome import Status
from ..eventlog import Record, Segment, State
from .segments import new_segments


@dataclass(slots=True, eq=False)
class Entry:
    """An answer that is copied, and how far it is."""

    answer: Answer
    record: Record | None
    """To be claimed before anything is written; None: that is done."""
    cursor: int = 0
    """The last event that is in the event log."""
    status: str = Status.PENDING
    """The last status that is there."""
    confirmed_at: float = field(default_factory=time.monotonic)
    """Monotonic seconds at which the event log was known to take it for ours."""

    @property
    def urgent(self) -> bool:
        """Whether others are to learn at once that it began, or has ended."""
        return self.record is not None or self.answer.ended_at is not None


class Batch:
    """The news of many answers."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.states: list[State] = []
        self.cursors: dict[str, int] = {}
        """By answer, the last event that is in here."""
        self.statuses: dict[str, str] = {}
        self.size = 0
        """Bytes of events."""

    def collect(self, entry: Entry) -> None:
        """Add what is new of one answer."""
        answer = entry.answer
        # Asked first: of an answer that is over, no event comes after what is read then.
        over = answer.ended_at is not None
        if over and answer.provisional:
            return
        cursor = entry.cursor
        if answer.log.last > cursor:
            for segment in new_segments(answer, cursor):
                self.segments.append(segment)
                self.size += len(segment.wire)
                cursor = segment.last
            self.cursors[answer.id] = cursor
        status = answer.status if over else Status.STREAMING if answer.accepted else entry.status
        if status != entry.status:
            self.states.append(State(answer.id, answer.epoch, status, cursor))
            self.statuses[answer.id] = status
