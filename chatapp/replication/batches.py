"""What one flush of the replicator writes."""

import time
from dataclasses import dataclass, field
from typing import Final

from ..answers.answer import Answer
from ..answers.outcome import Status
from ..eventlog import Record, Segment, State
from .segments import new_segments

CONFIRMED_EVERY: Final = 4.0
"""Seconds after which the status of a silent answer is written again: it may have been deleted, and
the event log only rejects what is written."""


@dataclass(slots=True, eq=False)
class Entry:
    """An answer being replicated, and how far it is."""

    answer: Answer
    record: Record | None
    """To be claimed before anything is written; None: it has been."""
    cursor: int = 0
    """The last event in the event log."""
    status: str = Status.PENDING
    """The last status in the event log."""
    reads: int = 0
    """How often readers at other workers were noted, as the event log last said."""
    confirmed_at: float = field(default_factory=time.monotonic)
    """Monotonic seconds of the last proof that the answer is still ours."""

    @property
    def urgent(self) -> bool:
        """Whether other workers should learn immediately of its start or end."""
        return self.record is not None or self.answer.ended_at is not None


class Batch:
    """What is new in many answers."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.states: list[State] = []
        self.cursors: dict[str, int] = {}
        """By answer, the last event in this batch."""
        self.statuses: dict[str, str] = {}
        self.size = 0
        """Bytes of events."""

    def collect(self, entry: Entry) -> None:
        """Add what is new of one answer."""
        answer = entry.answer
        # Checked first: if it has ended by now, what is read below is complete.
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
        silent = status == entry.status and cursor == entry.cursor
        if silent and time.monotonic() - entry.confirmed_at > CONFIRMED_EVERY:
            self.states.append(State(answer.id, answer.epoch, status, cursor))
            self.statuses[answer.id] = status
        if status != entry.status:
            # What no upstream has accepted can be asked again, with the same key.
            never_began = status == Status.FAILED and not answer.accepted
            self.states.append(State(answer.id, answer.epoch, status, cursor, never_began))
            self.statuses[answer.id] = status
