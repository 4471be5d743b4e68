"""Reads the upstreams in gevent's event loop: no greenlet waits for their bytes.

**Moderation.** A worker that wakes for each token of each stream spends much of its time waking.
So, as a network driver moderates interrupts, sockets are polled only every few milliseconds while
tokens are dense, and all that are ready are read together. The pause depends on how many are ready:
enough to be worth waking for, but not so many that the last one waits for all others. A token that
comes alone is read immediately.
"""

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary

import gevent
import httpx2
from gevent import monkey

from ..runtime.event_loop import sweeper, write_batch
from .transport import RawBody, Readable

Take = Callable[[bytes], float]
Ended = Callable[[Exception | None], None]

DENSE: Final = 0.001
"""Tokens are dense if one arrives within this many seconds after a poll."""
PAUSES: Final = (0.001, 0.002, 0.004)
"""Seconds between polls then; on average, a token waits half of it."""
AT_ONCE: Final = 16
"""Maximum sockets read before the rest of the event loop gets its turn. If that many are ready, the
pause gets shorter."""
FEW: Final = AT_ONCE // 2
"""If fewer are ready, the pause gets longer: twice as many still fit into one poll."""
OVERDUE: Final = 0.005
"""Seconds for which a due poll lets other work go first; then it runs at each tick."""
_READABLE: Final = 1
"""EPOLLIN, which gevent's patched `select` does not name."""


class AdaptivePoller:
    """The sockets of this worker's upstreams, in an epoll set of their own.

    The event loop watches the set as one descriptor (`_arrival`), or ignores it while a timer
    triggers polls (`_ticks`). A due poll waits until nothing else wants the loop (`_idle`): a
    visitor's request passes through the loop many times, and would meet a poll each time.

    :param epoll: makes the set.
    """

    def __init__(self, epoll: Callable[[], Any]) -> None:
        self.pid = os.getpid()
        self._epoll = epoll()
        self._readers: dict[int, BodyReader] = {}
        loop = gevent.get_hub().loop
        self._arrival = loop.io(self._epoll.fileno(), _READABLE)
        self._ticks = [loop.timer(pause, pause) for pause in PAUSES]
        self._pause = 0
        """Which of them."""
        self._idle = loop.idle()
        self._looked_at = 0.0
        self._due_since = 0.0
        self._full = False
        """Whether more was ready than one poll may read, since it is due."""

    def add(self, descriptor: int, reader: "BodyReader") -> None:
        """Let `reader` read from now on."""
        self._epoll.register(descriptor, _READABLE)
        if not self._readers:
            self._arrival.start(self._arrived)
        self._readers[descriptor] = reader

    def remove(self, descriptor: int) -> None:
        """Stop reading."""
        del self._readers[descriptor]
        with contextlib.suppress(OSError):  # A closed descriptor has left the set.
            self._epoll.unregister(descriptor)
        if not self._readers:
            for watcher in (self._arrival, *self._ticks, self._idle):
                watcher.stop()
            self._due_since = 0.0
            self._full = False

    def _arrived(self) -> None:
        now = time.monotonic()
        dense = now - self._looked_at < DENSE
        self._look(now)
        if dense and self._readers:
            self._arrival.stop()
            self._tick(0)

    def _ticked(self) -> None:
        now = time.monotonic()
        if not self._due_since:
            self._due_since = now
            self._idle.start(self._take_turn)
        elif now - self._due_since > OVERDUE:
            self._take_turn()

    def _take_turn(self) -> None:
        found = self._look(time.monotonic())
        if not self._readers:
            return
        if found == AT_ONCE:  # There is probably more, so the poll stays due.
            self._full = True
            if self._pause:
                self._tick(self._pause - 1)
            return
        full, self._full = self._full, False
        self._due_since = 0.0
        self._idle.stop()
        if full:
            return
        if not found:
            self._ticks[self._pause].stop()
            self._arrival.start(self._arrived)
        elif found < FEW and self._pause + 1 < len(PAUSES):
            self._tick(self._pause + 1)

    def _tick(self, pause: int) -> None:
        """Poll repeatedly, with this pause."""
        self._ticks[self._pause].stop()
        self._pause = pause
        self._ticks[pause].start(self._ticked)

    def _look(self, now: float) -> int:
        """Read what is ready, up to the maximum. Returns from how many sockets."""
        self._looked_at = now
        ready = self._epoll.poll(0, AT_ONCE)
        with write_batch:
            for descriptor, _ in ready:
                # An earlier one may have ended it.
                if reader := self._readers.get(descriptor):
                    reader.read(now)
        return len(ready)


_pollers: Final = WeakKeyDictionary[Any, AdaptivePoller]()


def current_poller() -> AdaptivePoller | None:
    """The poller of this hub; None without epoll. An epoll set does not survive a fork."""
    hub = gevent.get_hub()
    known = _pollers.get(hub)
    if known is None or known.pid != os.getpid():
        try:
            epoll = monkey.get_original("select", "epoll")
        except AttributeError:
            return None
        known = _pollers[hub] = AdaptivePoller(epoll)
    return known


class BodyReader:
    """Passes on one upstream's bytes from the event loop.

    :param take: gets the bytes; returns for how many seconds it waits for more; 0: it ends. It may
        neither wait nor switch greenlets other than by a `HubWaker`.
    :param ended: called once, in a greenlet of its own, with what reading or `take` raised.
    """

    __slots__ = ("_ended", "_poller", "_receive", "_source", "_take", "deadline", "listed")

    def __init__(self, source: Readable, take: Take, ended: Ended) -> None:
        self._source = source
        self._receive = source.receive_now
        self._take = take
        self._ended = ended
        self._poller: AdaptivePoller | None = None
        self.deadline = 0.0
        self.listed = False

    @property
    def asleep(self) -> bool:
        return self._poller is not None

    def start(self, current_poller: AdaptivePoller, patience: float) -> None:
        """Start reading; returns immediately.

        :param patience: seconds to wait for the first bytes.
        """
        current_poller.add(self._source.descriptor, self)
        self._poller = current_poller
        self.deadline = time.monotonic() + patience
        sweeper.add(self)
        if self._source.pending:  # what came with the head
            self.read(time.monotonic())

    def time_out(self) -> None:
        """Called by the sweeper."""
        self._end(httpx2.ReadTimeout("The upstream fell silent."))

    def read(self, now: float) -> None:
        """Read: there may be data.

        :param now: monotonic seconds.
        """
        try:
            while (data := self._receive()) is not None:
                patience = self._take(data) if data else 0.0
                if not patience:
                    self._end(None)
                    return
                self.deadline = now + patience
                if not self._source.pending:
                    return
        except Exception as error:
            self._end(error)

    def _end(self, fault: Exception | None) -> None:
        current_poller, self._poller = self._poller, None
        if current_poller is not None:
            self.deadline = 0.0  # The sweeper need not keep it until the deadline.
            current_poller.remove(self._source.descriptor)
            gevent.spawn(self._ended, fault)


def read_body(body: RawBody, take: Take, ended: Ended, patience: float) -> None:
    """Pass the bytes of `body` to `take` as they arrive, then call `ended`; see `BodyReader`."""
    fault: Exception | None = None
    try:
        own = current_poller()
        source = body.watchable() if own else None
        if own and source:
            BodyReader(source, take, ended).start(own, patience)
            return
        while patience:
            with gevent.Timeout(patience, httpx2.ReadTimeout("The upstream fell silent.")):
                data = body.read()
            patience = take(data) if data else 0.0
    except Exception as error:
        fault = error
    ended(fault)
