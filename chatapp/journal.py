"""What this worker's answers write, on its way to the other workers.

Nothing that is live waits for it: the journal reads the live logs by cursor, as any reader does,
and writes all answers' news in one batch a flush. While the event log is away it tries again, and
then writes what came meanwhile.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from .answer import Answer, Status
from .background import Background
from .errors import StorageUnavailable
from .eventlog import EventLog, Post, Record, Segment, State, Written
from .segments import news, record_of

logger = logging.getLogger(__name__)

BATCH_MOST: Final = 8 << 20
"""Bytes of one flush; what is more comes with the next."""
POSTS_MOST: Final = 10_000
"""Publications that wait while the event log is away."""
RUNNING: Final = frozenset({Status.PENDING, Status.STREAMING})
CONFIRMED_FOR: Final = 1.0
"""Seconds for which an answer is surely ours after a flush; less than any lease."""


@dataclass(slots=True, eq=False)
class _Entry:
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


class Journal:
    """Copies the events of this worker's answers into the event log.

    :param me: tells this worker's id.
    :param interval: seconds between flushes while an answer runs.
    :param stopped: called with an answer that somebody asked, elsewhere, to stop.
    :param lost: called with an answer that is another worker's by now.
    :param wanted: whether an answer that the event log does not know any more is to be kept.
    :param posted: called when publications have been written.
    """

    def __init__(
        self,
        log: EventLog,
        me: Callable[[], str],
        interval: float,
        stopped: Callable[[Answer], None],
        lost: Callable[[Answer], None],
        wanted: Callable[[Answer], bool],
        posted: Callable[[], None],
    ) -> None:
        self._log = log
        self._me = me
        self._interval = interval
        self._stopped = stopped
        self._lost = lost
        self._wanted = wanted
        self._posted = posted
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._posts: list[Post] = []
        self._forgotten: list[str] = []
        self._background = Background("event log", self._work)
        self._flushing = threading.Lock()
        self._due_at = 0.0
        """Monotonic seconds of the next flush of everything."""

    @property
    def behind(self) -> int:
        """How many answers the event log does not know to their end."""
        return len(self._entries)

    @property
    def failing(self) -> bool:
        """Whether the event log is away."""
        return self._background.failures > 0

    def watch(self, answer: Answer, *, claimed: bool, cursor: int = 0) -> None:
        """Copy this answer's events from now on, until its end.

        :param claimed: whether the event log knows the answer.
        :param cursor: the last event that the event log has.
        """
        with self._lock:
            record = None if claimed else record_of(answer, self._me())
            self._entries[answer.id] = _Entry(answer, record, cursor)
        self._background.wake()

    def claim(self, answer: Answer) -> None:
        """Have every worker know a watched answer now; while the event log is away, later."""
        entry = self._entries.get(answer.id)
        if entry is not None and entry.record is not None:
            with contextlib.suppress(StorageUnavailable):
                self._log.claim(entry.record)
                entry.record = None

    def forget(self, answer: Answer) -> None:
        """Remove an answer from the event log, and copy no more of it."""
        with self._lock:
            self._entries.pop(answer.id, None)
            self._forgotten.append(answer.id)
        self._background.wake()

    def drop(self, answer: Answer) -> None:
        """Copy no more of an answer; what is in the event log stays."""
        with self._lock:
            self._entries.pop(answer.id, None)

    def post(self, post: Post) -> None:
        """Publish with the next flush, which is at once."""
        with self._lock:
            if len(self._posts) >= POSTS_MOST:
                logger.warning("a publication is dropped: too many wait for the event log")
                del self._posts[0]
            self._posts.append(post)
        self._background.wake()

    def wake(self) -> None:
        """Flush soon: an answer has ended."""
        self._background.wake()

    def confirm(self, answer: Answer) -> None:
        """Make sure that an answer is still ours: a worker that slept may have lost it.

        What it finds is reported by `lost`. While the event log is away, nobody takes anything.
        """
        entry = self._entries.get(answer.id)
        if entry is None or self.failing:
            return
        if time.monotonic() - entry.confirmed_at < CONFIRMED_FOR:
            return
        with contextlib.suppress(StorageUnavailable):
            known = self._log.find(answer.id)
            if known is not None and known.epoch != answer.epoch:
                self._drop(entry)
                self._lost(answer)

    def close(self, timeout: float) -> None:
        """Write what is there yet, at most for `timeout` seconds, and flush no more."""
        deadline = time.monotonic() + timeout
        self._background.end(timeout)
        with contextlib.suppress(StorageUnavailable):
            while self.flush() == 0.0 and time.monotonic() < deadline:
                pass

    def flush(self) -> float | None:
        """Write all that is new.

        :returns: seconds to the next flush; None: nothing is being written.
        :raises StorageUnavailable: nothing is lost; try again.
        """
        self._due_at = time.monotonic() + self._interval
        return self._flush(urgent=False)

    def _work(self) -> float | None:
        """Flush everything when it is time, and between what somebody waits for."""
        if time.monotonic() >= self._due_at:
            return self.flush()
        pause = self._flush(urgent=True)
        return pause and max(min(pause, self._due_at - time.monotonic()), 0.001)

    def _flush(self, urgent: bool) -> float | None:
        heard: list[tuple[Callable[[Answer], None], Answer]] = []
        try:
            with self._flushing:
                with self._lock:
                    entries, forgotten = list(self._entries.values()), self._forgotten[:]
                if urgent:
                    entries = [each for each in entries if each.urgent]
                self._claim(entries)
                if forgotten:
                    self._log.discard(forgotten)
                    with self._lock:
                        del self._forgotten[: len(forgotten)]
                more = self._write(entries, heard)
        finally:
            # Outside of the lock: who hears it may end the answer, and for that wants to flush.
            for tell, answer in heard:
                tell(answer)
        if more:
            return 0.0
        return self._interval if self._entries or self._posts or self._forgotten else None

    def _claim(self, entries: list[_Entry]) -> None:
        new = [entry for entry in entries if entry.record and entry.record.key is None]
        if new:
            self._log.add([entry.record for entry in new if entry.record])
        for entry in new:
            entry.record = None
        for entry in entries:
            if entry.record is not None:
                known = self._log.claim(entry.record)
                if known.id != entry.answer.id:  # Its key stands for a newer answer by now.
                    self._log.claim(replace(entry.record, key=None))
                entry.record = None

    def _write(
        self, entries: list[_Entry], heard: list[tuple[Callable[[Answer], None], Answer]]
    ) -> bool:
        """Write a batch; whether there is more than went into it."""
        if not entries and not self._posts:
            return False
        segments: list[Segment] = []
        states: list[State] = []
        cursors: dict[str, int] = {}
        size = 0
        for entry in entries:
            if size > BATCH_MOST:
                break
            size += self._collect(entry, segments, states, cursors)
        asked_at = time.monotonic()
        written = self._send(segments, states)
        for entry in entries:
            if entry.answer.id in cursors and entry.answer.id not in written.lost:
                entry.confirmed_at = asked_at
        statuses = {state.answer_id: state.status for state in states}
        self._settle(entries, cursors, statuses, written, heard)
        return size > BATCH_MOST

    def _send(self, segments: list[Segment], states: list[State]) -> Written:
        with self._lock:
            posts, self._posts = self._posts, []
        try:
            written = self._log.write(self._me(), segments, states, posts)
        except BaseException:
            with self._lock:
                self._posts[:0] = posts
            raise
        if posts:
            self._posted()
        return written

    def _collect(
        self,
        entry: _Entry,
        segments: list[Segment],
        states: list[State],
        cursors: dict[str, int],
    ) -> int:
        """Add what is new of one answer; its bytes."""
        answer = entry.answer
        # Asked first: of an answer that is over, no event comes after what is read then.
        over = answer.ended_at is not None
        if over and answer.provisional:
            return 0
        size, cursor = 0, entry.cursor
        if answer.log.last > cursor:
            for segment in news(answer, cursor):
                segments.append(segment)
                size += len(segment.wire)
                cursor = segment.last
            cursors[answer.id] = cursor
        status = answer.status if over else Status.STREAMING if answer.accepted else entry.status
        if status != entry.status:
            states.append(State(answer.id, answer.epoch, status, cursor))
        return size

    def _settle(
        self,
        entries: list[_Entry],
        cursors: dict[str, int],
        statuses: dict[str, str],
        written: Written,
        heard: list[tuple[Callable[[Answer], None], Answer]],
    ) -> None:
        """Note what the event log has now, and what it says."""
        for entry in entries:
            answer = entry.answer
            if answer.id in written.lost:
                if self._is_lost(entry):
                    heard.append((self._lost, answer))
                continue
            entry.cursor = cursors.get(answer.id, entry.cursor)
            entry.status = statuses.get(answer.id, entry.status)
            if entry.status not in RUNNING:
                self._drop(entry)
            elif answer.id in written.stops:
                heard.append((self._stopped, answer))

    def _is_lost(self, entry: _Entry) -> bool:
        """Why the event log does not take an answer from us: was it set back, or are we done?"""
        answer = entry.answer
        known = self._log.find(answer.id)
        if known is not None and known.epoch == answer.epoch and known.status in RUNNING:
            # The storage came back without its latest events.
            entry.cursor, entry.status = known.last_event, known.status
            return False
        if known is None and self._wanted(answer):
            logger.warning("answer %s was gone from the event log; it is written anew", answer.id)
            entry.cursor, entry.status = 0, Status.PENDING
            entry.record = record_of(answer, self._me())
            return False
        self._drop(entry)
        return True

    def _drop(self, entry: _Entry) -> None:
        with self._lock:
            if self._entries.get(entry.answer.id) is entry:
                del self._entries[entry.answer.id]
