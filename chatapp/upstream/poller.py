"""Reading the upstreams in gevent's hub, for one thread: no greenlet waits for their bytes.

**Moderation.** A worker that is woken for each token of each stream spends much of its time on
waking. As a network card's driver does with interrupts, the sockets are looked at no more than once
in some milliseconds while tokens are dense, and then all that are ready are read in a row. How long
the pauses are follows from how many there are: enough to be worth the waking, not so many that the
last one has waited for all the others. A token that comes alone is read at once.
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
"""Tokens are dense when something comes within so many seconds after a look."""
PAUSES: Final = (0.001, 0.002, 0.004)
"""Seconds between looks then: a token waits half of it on average."""
AT_ONCE: Final = 16
"""Sockets that are read in a row before others in the event loop have their turn. Where there are
so many, the pause gets shorter."""
FEW: Final = AT_ONCE // 2
"""Where a look finds fewer, the pause gets longer: twice as many still fit into one row."""
OVERDUE: Final = 0.005
"""Seconds for which a look lets others go first; then there is one with each tick."""
_READABLE: Final = 1
"""EPOLLIN, which gevent's patched `select` does not name."""


class AdaptivePoller:
    """The sockets of this worker's upstreams, in an epoll set of their own.

    The event loop watches the set as one descriptor (`_arrival`), or leaves it alone while a timer
    says when to look (`_ticks`). A look that is due waits until nobody else wants the loop
    (`_idle`): a visitor who is served goes through it many times, and would meet a look each time.

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
        """Whether there was more than may be read in a row, since it is due."""

    def add(self, descriptor: int, reader: "BodyReader") -> None:
        """Have `reader` read from now on."""
        self._epoll.register(descriptor, _READABLE)
        if not self._readers:
            self._arrival.start(self._arrived)
        self._readers[descriptor] = reader

    def remove(self, descriptor: int) -> None:
        """No longer."""
        del self._readers[descriptor]
        with contextlib.suppress(OSError):  # One that was closed has left the set with that.
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
        if found == AT_ONCE:  # There is probably more: it stays due.
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
        """Look after this pause, and again and again."""
        self._ticks[self._pause].stop()
        self._pause = pause
        self._ticks[pause].start(self._ticked)

    def _look(self, now: float) -> int:
        """Read what is there, as much as may be at once; from how many sockets."""
        self._looked_at = now
        ready = self._epoll.poll(0, AT_ONCE)
        with write_batch:
            for descriptor, _ in ready:
                # One that comes later in the row may have been ended by then.
                if reader := self._readers.get(descriptor):
                    reader.read(now)
        return len(ready)


_pollers: Final = WeakKeyDictionary[Any, AdaptivePoller]()


def current_poller() -> AdaptivePoller | None:
    """The one of this hub; None where the system has no epoll. A set does not survive a fork."""
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
    """Hands one upstream's bytes on from the hub.

    :param take: gets the bytes; returns for how many seconds it waits for more, 0: not at all. It
        may neither wait nor switch to another greenlet than by a `HubWaker`.
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
        """Begin to read; returns at once.

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
        """There may be something to read.

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
            self.deadline = 0.0  # The sweeper need not keep it until then.
            current_poller.remove(self._source.descriptor)
            gevent.spawn(self._ended, fault)


def read_body(body: RawBody, take: Take, ended: Ended, patience: float) -> None:
    """Hand the bytes of `body` to `take` as they come, and then call `ended`; see `BodyReader`."""
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
