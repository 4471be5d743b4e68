"""Copies what this worker's answers write to the event log, for the other workers.

Live readers never wait for it: the replicator reads the live logs by cursor, as any reader does,
and writes what is new in all answers as one batch per flush. While the event log is down it
retries, and then writes what has accumulated.
"""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from ..answers.answer import Answer
from ..answers.outcome import RUNNING, Status
from ..errors import StorageUnavailable
from ..eventlog import EventLog, PendingMessage, Written
from ..runtime.background import BackgroundTask
from ..runtime.retry_queue import write_apart
from .batches import Batch, Entry
from .segments import record_of

logger = logging.getLogger(__name__)

MAX_BATCH_BYTES: Final = 8 << 20
"""Maximum bytes of a flush; the rest comes with the next one."""
GATHERED_FOR: Final = 0.02
"""Seconds for which starts, ends and publications are gathered into a batch. Most first bytes have
been sent by then; the writing thread would take the interpreter from them."""
EACH: Final = 0.001
MAX_PAUSE_SECONDS: Final = 0.5
"""Seconds between flushes for each answer, and for all of them."""
MAX_PENDING_MESSAGES: Final = 10_000
"""Maximum publications that wait while the event log is down."""
CONFIRMED_FOR: Final = 1.0
"""Seconds after a flush for which an answer is certainly ours; less than any lease."""
Heard = list[tuple[Callable[[Answer], None], Answer]]
"""What to call when a flush is over, and with which answer."""


class Replicator:
    """Copies the events of this worker's answers into the event log.

    :param worker_id: returns this worker's id.
    :param interval: seconds between flushes while an answer runs.
    :param stopped: called with an answer that was stopped through another worker.
    :param lost: called with an answer that another worker owns now.
    :param deleted: called with an answer that was deleted through another worker.
    :param wanted: whether an answer that the event log has lost should be written again.
    """

    def __init__(
        self,
        log: EventLog,
        worker_id: Callable[[], str],
        interval: float,
        stopped: Callable[[Answer], None],
        lost: Callable[[Answer], None],
        deleted: Callable[[Answer], None],
        wanted: Callable[[Answer], bool],
    ) -> None:
        self._log = log
        self._worker_id = worker_id
        self._interval = interval
        self._stopped = stopped
        self._lost = lost
        self._deleted = deleted
        self._wanted = wanted
        self.on_published: list[Callable[[], None]] = []
        """Called when publications have been written."""
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._posts: list[PendingMessage] = []
        self._forgotten: list[str] = []
        self._background = BackgroundTask("event log", self._work)
        self._flushing = threading.Lock()
        self._due_at = math.inf
        """Monotonic seconds of the next full flush."""
        self._urgent_at = math.inf
        """Monotonic seconds of the next flush of what is urgent."""

    @property
    def behind(self) -> int:
        """How many answers the event log does not have to their end."""
        return len(self._entries)

    @property
    def failing(self) -> bool:
        """Whether the event log is unreachable."""
        return self._background.failures > 0

    def watch(self, answer: Answer, *, claimed: bool, cursor: int = 0) -> None:
        """Replicate this answer from now on, until its end.

        :param claimed: whether the event log knows the answer.
        :param cursor: the last event that the event log has.
        """
        with self._lock:
            record = None if claimed else record_of(answer, self._worker_id())
            self._entries[answer.id] = Entry(answer, record, cursor)
        self._background.wake()

    def claim(self, answer: Answer) -> None:
        """Make a watched answer visible to all workers now; if the event log is down, later."""
        entry = self._entries.get(answer.id)
        if entry is not None and entry.record is not None:
            with contextlib.suppress(StorageUnavailable):
                self._log.claim(entry.record)
                entry.record = None

    def forget(self, answer: Answer) -> None:
        """Remove an answer from the event log, and stop replicating it."""
        with self._lock:
            self._entries.pop(answer.id, None)
            self._forgotten.append(answer.id)
        self._background.wake()

    def drop(self, answer: Answer) -> None:
        """Stop replicating an answer; what is in the event log stays."""
        with self._lock:
            self._entries.pop(answer.id, None)

    def post(self, post: PendingMessage) -> None:
        """Publish with an immediate flush."""
        with self._lock:
            if len(self._posts) >= MAX_PENDING_MESSAGES:
                logger.warning("a publication was dropped: too many are waiting for the event log")
                del self._posts[0]
            self._posts.append(post)
        self._background.wake()

    def wake(self) -> None:
        """Flush soon, since an answer has ended."""
        self._background.wake()

    def confirm(self, answer: Answer) -> None:
        """Check that an answer is still ours: a worker that was asleep may have lost it.

        Calls `lost` if it is not. While the event log is down, no worker takes anything.
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
        """Write what is left, for at most `timeout` seconds, and stop flushing."""
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
        # With many answers, a batch costs more than its quickness is worth.
        slower = min(len(self._entries) * EACH, MAX_PAUSE_SECONDS)
        pause = max(self._interval, slower)
        self._due_at = time.monotonic() + pause
        return self._flush(urgent=False)

    def _work(self) -> float | None:
        """Flush everything when it is due, and what is urgent in between."""
        now = time.monotonic()
        if self._due_at == math.inf:
            self._due_at = now + self._interval
        if now >= self._due_at:
            return self.flush()
        if self._urgent_at == math.inf:
            self._urgent_at = now + GATHERED_FOR
        if now < self._urgent_at:
            return self._urgent_at - now
        return self._flush(urgent=True)

    def _flush(self, urgent: bool) -> float | None:
        heard: Heard = []
        self._urgent_at = math.inf
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
                more = self._write_what_is_taken(entries, heard)
        finally:
            # Outside the lock: a callback may end the answer, which needs a flush.
            for tell, answer in heard:
                tell(answer)
        if more:
            return 0.0
        if not (self._entries or self._posts or self._forgotten):
            self._due_at = math.inf
            return None
        return max(min(self._interval, self._due_at - time.monotonic()), 0.001)

    def _claim(self, entries: list[Entry]) -> None:
        new = [entry for entry in entries if entry.record and entry.record.key is None]
        if new:
            refused = write_apart(self._log.add, [each.record for each in new if each.record])
            for entry in (each for each in new if each.record in refused):
                self._drop(entry)
        for entry in new:
            entry.record = None
        for entry in entries:
            if entry.record is not None:
                known = self._log.claim(entry.record)
                if known.id != entry.answer.id:  # Its key stands for a newer answer now.
                    self._log.claim(replace(entry.record, key=None))
                entry.record = None

    def _write_what_is_taken(self, entries: list[Entry], heard: Heard) -> bool:
        """As `_write`; what the event log refuses holds nothing up."""
        try:
            return self._write(entries, heard)
        except StorageUnavailable:
            raise
        except Exception:
            logger.warning("the event log refuses a batch; its parts are written apart")
        self._publish_apart()
        for entry in write_apart(lambda some: self._write(list(some), heard), entries):
            self._drop(entry)
        return True

    def _publish_apart(self) -> None:
        posts = tuple(self._posts)

        def settled(count: int) -> None:
            with self._lock:
                del self._posts[:count]

        write_apart(lambda some: self._log.write(self._worker_id(), (), (), some), posts, settled)
        for notify in self.on_published:
            notify()

    def _write(self, entries: list[Entry], heard: Heard) -> bool:
        """Write a batch. Returns whether more was left than fits into it."""
        if not self._entries and not self._posts:
            return False
        batch = Batch()
        for entry in entries:
            if batch.size > MAX_BATCH_BYTES:
                break
            batch.collect(entry)
        asked_at = time.monotonic()
        written = self._send(batch)
        for entry in entries:
            answer_id = entry.answer.id
            told = answer_id in batch.cursors or answer_id in batch.statuses
            if told and answer_id not in written.lost:
                entry.confirmed_at = asked_at
        self._settle(entries, batch, written, heard)
        return batch.size > MAX_BATCH_BYTES

    def _send(self, batch: Batch) -> Written:
        with self._lock:
            posts, self._posts = self._posts, []
        try:
            written = self._log.write(self._worker_id(), batch.segments, batch.states, posts)
        except BaseException:
            with self._lock:
                self._posts[:0] = posts
            raise
        if posts:
            for notify in self.on_published:
                notify()
        return written

    def _settle(self, entries: list[Entry], batch: Batch, written: Written, heard: Heard) -> None:
        """Record what the event log has now, and act on its reply."""
        for entry in entries:
            answer = entry.answer
            if answer.id in written.lost:
                if tell := self._refused(entry):
                    heard.append((tell, answer))
                continue
            entry.cursor = batch.cursors.get(answer.id, entry.cursor)
            entry.status = batch.statuses.get(answer.id, entry.status)
            if entry.status not in RUNNING:
                self._drop(entry)
            if (reads := written.reads.get(answer.id, 0)) != entry.reads:
                entry.reads = reads
                answer.unread_since = time.monotonic()
        for answer_id in written.stops:
            if stopped := self._entries.get(answer_id):
                heard.append((self._stopped, stopped.answer))

    def _refused(self, entry: Entry) -> Callable[[Answer], None] | None:
        """Whom to tell of a rejected answer; None: nobody, since it is to be written again."""
        answer = entry.answer
        known = self._log.find(answer.id)
        if known is not None and known.epoch == answer.epoch and known.status in RUNNING:
            # The storage came back without the latest events.
            entry.cursor, entry.status = known.last_event, known.status
            return None
        if known is None and self._wanted(answer):
            logger.warning(
                "answer %s was missing from the event log; it is written again", answer.id
            )
            entry.cursor, entry.status = 0, Status.PENDING
            entry.record = record_of(answer, self._worker_id())
            return None
        self._drop(entry)
        return self._lost if known else self._deleted

    def _drop(self, entry: Entry) -> None:
        with self._lock:
            if self._entries.get(entry.answer.id) is entry:
                del self._entries[entry.answer.id]
