"""The state of the search for sentences along one answer, so that a reader can begin in the middle.

Where sentences end depends on all the text before. A checkpoint is kept every few KB: who reads by
sentences from some event on searches only the text since the checkpoint before it.
"""

import bisect
import copy
import threading
from typing import Final, NamedTuple

from .events import DELTAS, EventType
from .text.sentences import SentenceCutter

SPACING: Final = 4096
"""Characters between checkpoints. A search of as many takes a few milliseconds."""

Cutters = dict[EventType, SentenceCutter]


class Checkpoint(NamedTuple):
    """The state after an event."""

    number: int
    sizes: dict[EventType, int]
    """The bytes of the text and of the reasoning so far."""
    cutters: Cutters

    def copied(self) -> "Checkpoint":
        """One whose cutters can go on."""
        cutters = {kind: copy.copy(cutter) for kind, cutter in self.cutters.items()}
        return Checkpoint(self.number, dict(self.sizes), cutters)


class Checkpoints:
    """The checkpoints of one log; threads may share them."""

    __slots__ = ("_kept", "_lock", "_numbers")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        beginning = Checkpoint(
            0, dict.fromkeys(DELTAS, 0), {kind: SentenceCutter() for kind in DELTAS}
        )
        self._numbers = [0]
        self._kept = [beginning]

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, checkpoint: Checkpoint) -> None:
        """Keep one, unless its event has one. Its cutters must not be used any more."""
        with self._lock:
            at = bisect.bisect_right(self._numbers, checkpoint.number)
            if self._numbers[at - 1] != checkpoint.number:
                self._kept.insert(at, checkpoint)
                self._numbers.insert(at, checkpoint.number)

    def before(self, number: int) -> Checkpoint:
        """A copy of the last one at or before this event."""
        with self._lock:
            return self._kept[bisect.bisect_right(self._numbers, number) - 1].copied()
