"""One reader of an answer's log, as a synchronous generator of wire bytes."""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

from ..answers import sse
from ..answers.answer import Answer
from ..answers.events import DELTAS, Event, EventType, event_data
from ..answers.text.granularity import Granularity, Joiner
from ..runtime.wakers import Wakeable, Waker
from .client_connection import MAX_WRITE_BYTES


class Presence(Protocol):
    """The connection that a stream is written to."""

    gone: bool
    """Whether the client has closed it."""
    maybe_gone: bool
    """Whether something is to be written to find that out; set back by who does."""
    direct: bool
    """Whether `try_send` may be used."""

    def begin_write(self, block: bytes) -> None:
        """The server is about to get these bytes, and to wait until the client takes them."""

    def end_write(self) -> None:
        """The client has taken them."""

    def try_send(self, data: bytes) -> bool:
        """Write past the server what it would get next, without waiting; whether all has left.

        What has not is for `flush`.
        """

    def flush(self) -> None:
        """Write what `try_send` has left, and wait until the client takes it.

        :raises OSError: the client has gone.
        """

    def end(self) -> None:
        """The server gets no more, and has the last bytes of the response to write yet."""


class Follower:
    """One client's view of an answer's log; a `Feed`.

    :param cursor: the last event that the client has; None: nobody knows.
    :param leaving: whether the worker goes down.
    """

    __slots__ = ("_answer", "_cursor", "_draining", "_granularity", "_joiner", "_lost")

    def __init__(
        self,
        answer: Answer,
        cursor: int | None,
        granularity: Granularity,
        draining: Callable[[], bool],
    ) -> None:
        self._draining = draining
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

    def draining(self) -> bool:
        return self._answer.moved or self._draining()

    def enter(self, waker: Wakeable) -> None:
        self._answer.readers.add(waker)

    def exit(self, waker: Wakeable) -> None:
        # In this order: whoever sees no reader must see since when.
        self._answer.unread_since = time.monotonic()
        self._answer.readers.discard(waker)

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
        transcript = self._answer.log.transcript()
        number = transcript.number
        from_the_start = not self._lost and self._cursor == 0
        if self._answer.log.ends_at(number):
            # The last event is no text. It follows under its own number, so that the client sees
            # an end, and a cursor at the snapshot has something to wait for.
            number -= 1
        self._lost, self._cursor = False, number
        if self._granularity is not Granularity.TOKEN:
            before = {kind: transcript.of(kind) for kind in DELTAS}
            self._joiner = Joiner(self._granularity, before)
        fields = self._answer.snapshot_fields(transcript)
        snapshot = sse.encode(Event(number, EventType.SNAPSHOT, event_data(fields)))
        return sse.encode(self._answer.start_event()) + snapshot if from_the_start else snapshot

    def _text_before(self) -> dict[EventType, str]:
        """The text and the reasoning up to the cursor."""
        if not self._cursor:
            return {}
        log = self._answer.log
        transcript = log.transcript()
        before = {kind: transcript.of(kind) for kind in DELTAS}
        later = log.events(self._cursor, transcript.number)
        for kind in DELTAS:
            size = sum(len(event.text) for event in later if event.type is kind)
            before[kind] = before[kind][: len(before[kind]) - size]
        return before


class Feed(Protocol):
    """A log, seen from one reader's cursor."""

    @property
    def over(self) -> bool:
        """Whether `read` has nothing more to come, once it is empty."""

    def draining(self) -> bool:
        """Whether the reader is to come back elsewhere."""

    def read(self) -> bytes:
        """What is new, as wire bytes; empty when nothing is."""

    def enter(self, waker: Wakeable) -> None:
        """Ring this bell for news from now on."""

    def exit(self, waker: Wakeable) -> None:
        """No longer."""


def follow(
    feed: Feed, presence: Presence, waker: Waker, heartbeat: float
) -> Generator[bytes, None, None]:
    """What one client gets, to the end of the feed.

    Returns when the feed is over or leaving, or the client is gone. The log is read by cursor, so a
    wake-up that comes too early or twice does no harm. Where the connection allows it, what comes
    while the generator sleeps is written by whoever brings it, and the generator sleeps on.

    :param heartbeat: seconds of silence after which a comment is sent. One also follows immediately
        on the sign that the client may have gone.
    """
    out = _Output(feed, presence)
    feed.enter(waker)
    try:
        data = sse.RETRY
        while True:
            # Asked before reading: what came between the two rings the bell.
            over = feed.over
            data += feed.read()
            yield from out.write(data)
            if not data and (over or presence.gone):
                return
            if not over and feed.draining():
                yield from out.write(sse.COME_BACK)
                return
            data = b""
            if not over and (not out.sleep(waker, heartbeat) or presence.maybe_gone):
                presence.maybe_gone = False
                data = sse.KEEP_ALIVE
            presence.flush()
    finally:
        presence.end()
        feed.exit(waker)


class _Output:
    """What a client is sent, and since when nothing."""

    __slots__ = ("_feed", "_presence", "_silent_from")

    def __init__(self, feed: Feed, presence: Presence) -> None:
        self._feed = feed
        self._presence = presence
        self._silent_from = 0.0
        """Monotonic seconds."""

    def write(self, data: bytes) -> Iterator[bytes]:
        """Yield as many bytes at a time as a client is given time for."""
        for at in range(0, len(data), MAX_WRITE_BYTES):
            block = data[at : at + MAX_WRITE_BYTES]
            self._presence.begin_write(block)
            yield block
            self._presence.end_write()
            self._silent_from = time.monotonic()

    def write_pending(self) -> bool:
        """Write what is new while the generator sleeps; whether it can sleep on."""
        data = self._feed.read()
        if not data:
            return True
        self._silent_from = time.monotonic()
        return self._presence.try_send(data)

    def sleep(self, waker: Waker, heartbeat: float) -> bool:
        """Wait until the bell is rung; False: the client has had nothing for too long before."""
        write_pending = self.write_pending if self._presence.direct else None
        while (left := self._silent_from + heartbeat - time.monotonic()) > 0:
            if waker.wait(left, write_pending):
                return True
        return False
