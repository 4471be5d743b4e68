"""The event log in the memory of a process: for a single worker, and for tests."""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from ..answers.outcome import RUNNING
from ..runtime.setup_fault import SetupFault
from .base import (
    MAX_ORPHANS,
    MAX_PUBLISHED,
    MAX_READ_BYTES,
    PendingMessage,
    PublishedMessage,
    Record,
    Segment,
    State,
    Written,
    before_first_message,
)


@dataclass(slots=True)
class _Kept:
    record: Record
    segments: list[Segment] = field(default_factory=list)
    ended_at: float | None = None
    reads: int = 0

    def append(self, segment: Segment) -> bool:
        """As in `EventLog.write`; False: rejected."""
        end = self.record.last_event
        if segment.epoch != self.record.epoch or segment.first > end + 1:
            return False
        if segment.first <= end:
            at = self.index(segment.first)
            if at == len(self.segments) or self.segments[at][1:3] != segment[1:3]:
                return False
            if segment.last <= end:
                return True
        else:
            at = len(self.segments)
        if self.ended_at is not None:
            return False
        self.segments[at:] = [segment]
        self.record = replace(self.record, last_event=segment.last)
        return True

    def index(self, number: int) -> int:
        """Which segment has this event in it, or is the first after it."""
        low, high = 0, len(self.segments)
        while low < high:
            middle = (low + high) // 2
            if self.segments[middle].last < number:
                low = middle + 1
            else:
                high = middle
        return low

    def end(self, status: str, refusal: bytes | None = None) -> None:
        self.record = replace(self.record, status=status, request=None, refusal=refusal)
        self.ended_at = time.time()


class MemoryEventLog:
    """Stores the answers of this process only."""

    shared = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[str, _Kept] = {}
        self._ended: OrderedDict[str, int] = OrderedDict()
        """The bytes of ended answers, in the order of their ends."""
        self._keys: dict[tuple[str, str], str] = {}
        self._beats: dict[str, int] = {}
        self._posts: deque[PublishedMessage] = deque()
        self._last_post = 0
        self.fault = SetupFault()

    def claim(self, record: Record) -> Record:
        with self._lock:
            if known := self._answers.get(record.id):
                return known.record
            if record.key is not None:
                holder = self._keys.setdefault((record.owner, record.key), record.id)
                if holder != record.id:
                    return self._answers[holder].record
            self._answers[record.id] = _Kept(record)
            return record

    def add(self, records: Sequence[Record]) -> None:
        for record in records:
            self.claim(record)

    def find(self, answer_id: str) -> Record | None:
        kept = self._answers.get(answer_id)
        return kept.record if kept else None

    def write(
        self,
        writer: str,
        segments: Sequence[Segment],
        states: Sequence[State],
        posts: Sequence[PendingMessage],
    ) -> Written:
        lost: set[str] = set()
        with self._lock:
            for segment in segments:
                if segment.answer_id not in lost:
                    kept = self._answers.get(segment.answer_id)
                    if kept is None or not kept.append(segment):
                        lost.add(segment.answer_id)
            for state in states:
                if state.answer_id not in lost and not self._move(state):
                    lost.add(state.answer_id)
            numbers = [self._publish(post) for post in posts]
            own = {
                answer_id: kept
                for answer_id, kept in self._answers.items()
                if kept.record.writer == writer and kept.ended_at is None
            }
            stops = frozenset(answer_id for answer_id, kept in own.items() if kept.record.stop)
            reads = {answer_id: kept.reads for answer_id, kept in own.items() if kept.reads}
        return Written(frozenset(lost), stops, numbers, reads)

    def read(
        self, cursors: Mapping[str, int], max_bytes: int = MAX_READ_BYTES
    ) -> tuple[dict[str, list[Segment]], frozenset[str]]:
        pending: list[tuple[int, str, Segment]] = []
        missing = set()
        with self._lock:
            for answer_id, cursor in cursors.items():
                kept = self._answers.get(answer_id)
                if kept is None:
                    missing.add(answer_id)
                    continue
                for segment in islice(kept.segments, kept.index(cursor + 1), None):
                    pending.append((segment.first - cursor, answer_id, segment))
        found: dict[str, list[Segment]] = {}
        size = 0
        for _, answer_id, segment in sorted(pending):
            size += len(segment.wire)
            if size > max_bytes and found:
                break
            found.setdefault(answer_id, []).append(segment)
        return found, frozenset(missing)

    def request_stop(self, answer_id: str) -> None:
        with self._lock:
            kept = self._answers.get(answer_id)
            if kept and kept.ended_at is None:
                kept.record = replace(kept.record, stop=True)

    def note_readers(self, answer_ids: Iterable[str]) -> None:
        with self._lock:
            for answer_id in answer_ids:
                if kept := self._answers.get(answer_id):
                    kept.reads += 1

    def release(self, answer_id: str, epoch: int) -> None:
        with self._lock:
            if kept := self._running(answer_id, epoch):
                kept.record = replace(kept.record, writer=None)

    def refuse(self, answer_id: str, epoch: int, refusal: bytes) -> None:
        with self._lock:
            if kept := self._running(answer_id, epoch):
                self._free_key(kept)
                kept.end("refused", refusal)
                self._ended[answer_id] = sum(len(each.wire) for each in kept.segments)

    def discard(self, answer_ids: Iterable[str]) -> None:
        with self._lock:
            for answer_id in answer_ids:
                self._forget(answer_id)

    def beat(self, writer: str) -> dict[str, int]:
        with self._lock:
            self._beats[writer] = self._beats.get(writer, 0) + 1
            return dict(self._beats)

    def beat_here(self, writer: str) -> None:
        """Whoever could see it is in this process, and as busy."""

    def leave(self, writers: Iterable[str]) -> None:
        with self._lock:
            for writer in writers:
                self._beats.pop(writer, None)

    def orphans(self, alive: Collection[str]) -> list[Record]:
        with self._lock:
            free = (
                kept.record
                for kept in self._answers.values()
                if kept.ended_at is None and kept.record.writer not in alive
            )
            return list(islice(free, MAX_ORPHANS))

    def take(self, answer_id: str, epoch: int, writer: str) -> bool:
        with self._lock:
            if kept := self._running(answer_id, epoch):
                crashes = kept.record.crashes + (kept.record.writer is not None)
                taken = replace(kept.record, epoch=epoch + 1, writer=writer, crashes=crashes)
                kept.record = taken
                return True
            again = self._running(answer_id, epoch + 1)
            return again is not None and again.record.writer == writer

    def published(self, after: int, limit: int = MAX_PUBLISHED) -> list[PublishedMessage]:
        with self._lock:
            return list(islice((post for post in self._posts if post.number > after), limit))

    def last_published(self) -> int:
        return self._last_post

    def tidy(self, answer_age: float, max_bytes: int, post_age: float, posts_kept: int) -> None:
        now = time.time()
        with self._lock:
            size = sum(self._ended.values())
            while self._ended:
                oldest, its_size = next(iter(self._ended.items()))
                ended_at = self._answers[oldest].ended_at
                if size <= max_bytes and ended_at is not None and ended_at >= now - answer_age:
                    break
                self._forget(oldest)
                size -= its_size
            posts = self._posts
            while posts and (len(posts) > posts_kept or posts[0].published_at < now - post_age):
                posts.popleft()

    def close(self) -> None:
        pass

    def _running(self, answer_id: str, epoch: int) -> _Kept | None:
        kept = self._answers.get(answer_id)
        return kept if kept and kept.ended_at is None and kept.record.epoch == epoch else None

    def _move(self, state: State) -> bool:
        kept = self._answers.get(state.answer_id)
        if kept is None or kept.record.epoch != state.epoch:
            return False
        if kept.ended_at is not None:
            return kept.record.status == state.status
        if state.status in RUNNING:
            kept.record = replace(kept.record, status=state.status)
            return True
        if state.last_event != kept.record.last_event:
            return False
        if state.frees_key:
            self._free_key(kept)
        kept.end(state.status)
        self._ended[state.answer_id] = sum(len(each.wire) for each in kept.segments)
        return True

    def _publish(self, post: PendingMessage) -> int:
        self._last_post = (self._last_post or before_first_message()) + 1
        self._posts.append(PublishedMessage(self._last_post, *post, time.time()))
        return self._last_post

    def _forget(self, answer_id: str) -> None:
        self._ended.pop(answer_id, None)
        if kept := self._answers.pop(answer_id, None):
            self._free_key(kept)

    def _free_key(self, kept: _Kept) -> None:
        record = kept.record
        if record.key is not None and self._keys.get((record.owner, record.key)) == record.id:
            del self._keys[record.owner, record.key]
        kept.record = replace(record, key=None)
