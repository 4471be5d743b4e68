"""One reader of an answer's log, as a synchronous generator of wire bytes."""

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Final, Protocol

from . import sse
from .answer import Answer, Reader
from .events import PIECES, Event, EventType, event_data
from .granularity import Granularity, Joiner

MOST_AT_ONCE: Final = 65_536
"""Bytes of one write: a slow client that takes so much in the send time-out is not stalled."""


class Bell:
    """Wakes one sleeper. Rung while nobody sleeps, it lets the next sleep end at once."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """From any thread; never blocks."""
        if self._lock.locked():
            try:
                self._lock.release()
            except RuntimeError:  # another thread was faster
                return

    def wait(self, timeout: float) -> bool:
        """Sleep until rung, at most `timeout` seconds; whether it was rung."""
        return self._lock.acquire(timeout=max(timeout, 0.0))


class Sleeper(Reader, Protocol):
    """What a reader sleeps on: a `Bell`, or what does the same cheaper."""

    def wait(self, timeout: float) -> bool:
        """As `Bell.wait`."""


class Presence(Protocol):
    """Tells of the connection that a stream is written to."""

    gone: bool
    """Whether the client has closed it."""
    writing_since: float
    """Monotonic seconds at which the server got bytes that the client has not taken yet; or 0."""


class Follower:
    """One client's view of an answer's log; a `Feed`.

    :param cursor: the last event that the client has; None: nobody knows.
    :param leaving: whether the worker goes down.
    """

    __slots__ = ("_answer", "_cursor", "_granularity", "_joiner", "_lost", "leaving")

    def __init__(
        self,
        answer: Answer,
        cursor: int | None,
        granularity: Granularity,
        leaving: Callable[[], bool],
    ) -> None:
        self.leaving = leaving
        self._answer = answer
        self._granularity = granularity
        self._joiner: Joiner | None = None
        self._cursor = 0 if cursor is None else cursor
        self._lost = cursor is None
        if not self._lost and granularity is not Granularity.TOKEN and self._reachable:
            with contextlib.suppress(LookupError):  # Trimmed meanwhile: `read` gives a snapshot.
                self._joiner = Joiner(granularity, self._text_before())

    @property
    def over(self) -> bool:
        return self._answer.ended_at is not None

    def enter(self, bell: Reader) -> None:
        self._answer.readers.add(bell)

    def exit(self, bell: Reader) -> None:
        # In this order: whoever sees no reader must see since when.
        self._answer.unread_since = time.monotonic()
        self._answer.readers.discard(bell)

    def read(self) -> bytes:
        """What the client has to get now; empty when there is nothing new."""
        if self._lost:
            return self._snapshot()
        try:
            if self._joiner is None:
                data, self._cursor = self._answer.log.read(self._cursor)
                return data
            return self._read_joined(self._joiner)
        except LookupError:  # The log does not reach back to the cursor.
            return self._snapshot()

    def _read_joined(self, joiner: Joiner) -> bytes:
        events = self._answer.log.events(self._cursor)
        if not events:
            return b""
        self._cursor = events[-1].number
        return b"".join(sse.encode(event) for event in joiner.join(events))

    @property
    def _reachable(self) -> bool:
        return self._answer.log.reaches(self._cursor)

    def _snapshot(self) -> bytes:
        """All text so far: loss of detail is announced, never hidden."""
        number, fields = self._answer.snapshot()
        from_the_start = not self._lost and self._cursor == 0
        if self._answer.log.ends_at(number):
            # The last event is no text. It follows under its own number, so that the client sees
            # an end, and a cursor at the snapshot has something to wait for.
            number -= 1
        self._lost, self._cursor = False, number
        if self._granularity is not Granularity.TOKEN:
            before = {EventType.TEXT: fields["text"], EventType.REASONING: fields["reasoning"]}
            self._joiner = Joiner(self._granularity, before)
        snapshot = sse.encode(Event(number, EventType.SNAPSHOT, event_data(fields)))
        return sse.encode(self._answer.start_event()) + snapshot if from_the_start else snapshot

    def _text_before(self) -> dict[EventType, str]:
        """The text and the reasoning up to the cursor."""
        if not self._cursor:
            return {}
        log = self._answer.log
        number, text, reasoning = log.snapshot()
        before = {EventType.TEXT: text, EventType.REASONING: reasoning}
        later = log.events(self._cursor, number)
        for kind in PIECES:
            size = sum(len(event.text) for event in later if event.type is kind)
            before[kind] = before[kind][: len(before[kind]) - size]
        return before


class Feed(Protocol):
    """A log, seen from one reader's cursor."""

    @property
    def over(self) -> bool:
        """Whether `read` has nothing more to come, once it is empty."""

    @property
    def leaving(self) -> Callable[[], bool]:
        """Whether the reader is to come back elsewhere."""

    def read(self) -> bytes:
        """What is new, as wire bytes; empty when nothing is."""

    def enter(self, bell: Reader) -> None:
        """Ring this bell for news from now on."""

    def exit(self, bell: Reader) -> None:
        """No longer."""


def follow(
    feed: Feed, presence: Presence, bell: Sleeper, heartbeat: float
) -> Generator[bytes, None, None]:
    """What one client gets, to the end of the feed.

    Returns when the feed is over or leaving, or the client is gone. The log is read by cursor, so a
    wake-up that comes too early or twice does no harm.

    :param heartbeat: seconds of silence after which a comment is sent.
    """
    feed.enter(bell)
    try:
        data = sse.RETRY
        while True:
            # Asked before reading: what came between the two rings the bell.
            over = feed.over
            data += feed.read()
            if data:
                silent_from = time.monotonic()
                for block in (data,) if len(data) <= MOST_AT_ONCE else _blocks(data):
                    presence.writing_since = silent_from
                    yield block
                    silent_from = time.monotonic()
                presence.writing_since = 0.0
            elif over or presence.gone:
                return
            if not over and feed.leaving():
                yield sse.COME_BACK
                return
            data = b""
            if not over and not bell.wait(silent_from + heartbeat - time.monotonic()):
                data = sse.KEEP_ALIVE
    finally:
        # The server has the response's last bytes to write yet.
        presence.writing_since = time.monotonic()
        feed.exit(bell)


def _blocks(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), MOST_AT_ONCE):
        yield data[at : at + MOST_AT_ONCE]
