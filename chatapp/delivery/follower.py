"""One reader of an answer's log, as a synchronous generator of wire bytes."""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from typing import Final, Protocol

from ..answers import sse
from ..answers.answer import Answer
from ..answers.events import DELTAS, Event, EventType, event_data
from ..answers.text.granularity import Granularity, Joiner
from ..runtime.wakers import Wakeable, Waker
from .client_connection import MAX_WRITE_BYTES

MAX_JOINED: Final = 256
"""Maximum events that one `read` joins; that takes a few milliseconds."""


class Presence(Protocol):
    """The connection that a stream is written to."""

    gone: bool
    """Whether the client has closed it."""
    maybe_gone: bool
    """Whether something is to be written to find that out; set back by who does."""
    direct: bool
    """Whether `try_send` may be used."""

    def begin_write(self, block: bytes) -> None:
        """The server is about to get these bytes, and waits until the client has taken them."""

    def end_write(self) -> None:
        """The client has taken them."""

    def try_send(self, data: bytes) -> bool:
        """Write directly what the server would get next, without waiting.

        :returns: whether all was sent. The rest is left for `flush`.
        """

    def flush(self) -> None:
        """Write what `try_send` left, and wait until the client has taken it.

        :raises OSError: the client has gone.
        """

    def end(self) -> None:
        """The server gets no more; it only has to write the response's last bytes."""


class Follower:
    """One client's view of an answer's log; a `Feed`.

    :param cursor: the last event that the client has; None: unknown.
    :param draining: whether the worker is shutting down.
    """

    __slots__ = (
        "_answer", "_cursor", "_draining", "_granularity", "_joiner", "_lost", "more", "revoked",
    )  # fmt: skip

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
        self.more = self.revoked = False
        if granularity is Granularity.SENTENCE:
            self._search_ahead()

    @property
    def over(self) -> bool:
        return self._answer.ended_at is not None

    def draining(self) -> bool:
        return self._answer.moved or self._draining()

    def enter(self, waker: Wakeable) -> None:
        self._answer.readers.add(waker)

    def exit(self, waker: Wakeable) -> None:
        # In this order: if somebody sees no reader, the time must be set.
        self._answer.unread_since = time.monotonic()
        self._answer.readers.discard(waker)

    def read(self) -> bytes:
        """What the client needs next; empty if there is nothing new."""
        if self._lost:
            return self._snapshot()
        try:
            if self._granularity is Granularity.TOKEN:
                data, self._cursor = self._answer.log.read(self._cursor)
                return data
            return self._read_joined()
        except LookupError:  # The log no longer goes back to the cursor.
            self.more = False
            return self._snapshot()

    def _read_joined(self) -> bytes:
        log = self._answer.log
        events = log.events(self._cursor, self._cursor + MAX_JOINED)
        self.more = len(events) == MAX_JOINED
        if not events:
            return b""
        if self._joiner is None and any(event.type in DELTAS for event in events):
            by_sentences = self._granularity is Granularity.SENTENCE
            cutters = log.cutters_at(self._cursor) if by_sentences else None
            self._joiner = Joiner(self._granularity, cutters)
        self._cursor = events[-1].number
        joined = self._joiner.join(events) if self._joiner else events
        return b"".join(sse.encode(event) for event in joined)

    def _search_ahead(self) -> None:
        """Search the text before the cursor for sentences while others run: `read` can't wait."""
        log = self._answer.log
        here = not self._lost and log.reaches(self._cursor)
        # Trimmed in between: `read` returns a snapshot.
        with contextlib.suppress(LookupError):
            cutters = log.cutters_at(self._cursor if here else log.last, lambda: time.sleep(0))
            self._joiner = Joiner(self._granularity, cutters) if here else None

    def _snapshot(self) -> bytes:
        """All text so far: the client learns that it lost events."""
        transcript = self._answer.log.transcript()
        number = transcript.number
        from_the_start = not self._lost and self._cursor == 0
        if self._answer.log.ends_at(number):
            # The last event is not text. It follows with its own number, so that the client sees
            # an end, and a cursor at the snapshot has something to wait for.
            number -= 1
        self._lost, self._cursor, self._joiner = False, number, None
        fields = self._answer.snapshot_fields(transcript)
        snapshot = sse.encode(Event(number, EventType.SNAPSHOT, event_data(fields)))
        return sse.encode(self._answer.start_event()) + snapshot if from_the_start else snapshot


class Feed(Protocol):
    """A log as seen from one reader's cursor."""

    more: bool
    """Whether `read` has left something that the next call returns."""
    revoked: bool
    """Whether the client must show again who it is before it gets more."""

    @property
    def over(self) -> bool:
        """Whether nothing more will follow once `read` returns nothing."""

    def draining(self) -> bool:
        """Whether the reader should reconnect elsewhere."""

    def read(self) -> bytes:
        """What is new, as wire bytes; may be empty."""

    def enter(self, waker: Wakeable) -> None:
        """Wake this waker for new data from now on."""

    def exit(self, waker: Wakeable) -> None:
        """Stop waking it."""


def follow(
    feed: Feed, presence: Presence, waker: Waker, heartbeat: float
) -> Generator[bytes, None, None]:
    """What one client gets, to the end of the feed.

    Returns when the feed is over or draining, or the client is gone. The log is read by cursor, so
    early or repeated wake-ups are harmless. If the connection allows it, new data is written by
    whoever brings it while the generator sleeps on.

    :param heartbeat: seconds of silence after which a comment is sent. One also follows immediately
        on the sign that the client may have gone.
    """
    out = _Output(feed, presence)
    feed.enter(waker)
    try:
        data = sse.RETRY
        while True:
            if feed.revoked:
                yield from out.write(sse.COME_BACK)
                return
            # Checked before reading, so that what arrives in between sets the waker.
            over = feed.over
            data += feed.read()
            yield from out.write(data)
            if not data and (presence.gone or (over and not feed.more)):
                return
            if not over and feed.draining():
                yield from out.write(sse.COME_BACK)
                return
            data = b""
            if feed.more:
                time.sleep(0)  # Between the parts of a long text, others have their turn.
            elif not over and (not out.sleep(waker, heartbeat) or presence.maybe_gone):
                presence.maybe_gone = False
                data = sse.KEEP_ALIVE
            presence.flush()
    finally:
        presence.end()
        feed.exit(waker)


class _Output:
    """Writes to one client, and keeps the time of the last write."""

    __slots__ = ("_feed", "_presence", "_silent_from")

    def __init__(self, feed: Feed, presence: Presence) -> None:
        self._feed = feed
        self._presence = presence
        self._silent_from = 0.0
        """Monotonic seconds."""

    def write(self, data: bytes) -> Iterator[bytes]:
        """Yield blocks of a size that the send timeout is meant for."""
        for at in range(0, len(data), MAX_WRITE_BYTES):
            block = data[at : at + MAX_WRITE_BYTES]
            self._presence.begin_write(block)
            yield block
            self._presence.end_write()
            self._silent_from = time.monotonic()

    def write_pending(self) -> bool:
        """Write new data while the generator sleeps. Returns whether it can sleep on."""
        data = self._feed.read()
        if not data:
            return not self._feed.more
        self._silent_from = time.monotonic()
        return self._presence.try_send(data) and not self._feed.more

    def sleep(self, waker: Waker, heartbeat: float) -> bool:
        """Wait until woken; False: the client has had nothing for too long."""
        write_pending = self.write_pending if self._presence.direct else None
        while (left := self._silent_from + heartbeat - time.monotonic()) > 0:
            if waker.wait(left, write_pending):
                return True
        return False
