"""What runs in gevent's hub: waking readers, and reading the upstream without a greenlet switch.

A chunk's way from one socket to the other costs about as much as the switches and timers around it.
Here one read watcher per upstream feeds the log from the hub's callback, and a reader that waits
for news is switched to from there: one switch a chunk, no timer. `docs/benchmarks.md` has figures.

A callback must neither wait nor raise. Everything here is for one thread: gevent's.
"""

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import gevent
import httpx2

from .transport import RawBody

Take = Callable[[bytes], float]
Ended = Callable[[Exception | None], None]

SWEEP: Final = 0.25
"""Seconds between looks for waits that are over; a wait may last that much longer."""


class Sleeper(Protocol):
    """What waits until a time, again and again."""

    deadline: float
    """Monotonic seconds."""
    listed: bool
    """Whether the sweeper knows of it."""

    @property
    def asleep(self) -> bool:
        """Whether it waits at the moment."""

    def time_out(self) -> None:
        """The time has come."""


class Sweeper:
    """One timer for all waits of this worker: a timer for each would cost more than the wait.

    Whoever begins to wait is listed once, and dropped when a sweep finds it awake after its time.
    """

    def __init__(self) -> None:
        self._listed: set[Sleeper] = set()
        self._greenlet: Any = None

    def add(self, sleeper: Sleeper) -> None:
        """List a sleeper that is not."""
        sleeper.listed = True
        self._listed.add(sleeper)
        if self._greenlet is None or self._greenlet.dead:
            self._greenlet = gevent.spawn(self._sweep)

    def _sweep(self) -> None:
        while self._listed:
            gevent.sleep(SWEEP)
            now = time.monotonic()
            for sleeper in tuple(self._listed):
                if sleeper.deadline >= now:
                    continue
                if sleeper.asleep:
                    sleeper.time_out()
                else:
                    self._listed.discard(sleeper)
                    sleeper.listed = False


class HubBell:
    """`following.Bell` without a lock and without a timer."""

    __slots__ = ("_hub", "_rung", "_scheduled", "_sleeper", "deadline", "listed")

    def __init__(self) -> None:
        self.deadline = 0.0
        self.listed = False
        self._hub = gevent.get_hub()
        self._sleeper: Any = None
        self._rung = False
        self._scheduled = False

    @property
    def asleep(self) -> bool:
        return self._sleeper is not None

    def ring(self) -> None:
        """From any greenlet, or the hub; in the hub, the sleeper runs before this returns."""
        if not self._rung:
            self._rung = True
            # What `time_out` does, without a call in the case of nearly every event.
            sleeper = self._sleeper
            if sleeper is None:
                return
            if gevent.getcurrent() is self._hub and not self._scheduled:
                sleeper.switch()
            else:
                self.time_out()

    def time_out(self) -> None:
        """End the wait."""
        sleeper = self._sleeper
        if sleeper is None or self._scheduled:
            return
        if gevent.getcurrent() is self._hub:
            sleeper.switch()
        else:
            self._scheduled = True
            self._hub.loop.run_callback(self._wake)

    def wait(self, timeout: float) -> bool:
        """Sleep until rung, about `timeout` seconds at the most; whether it was rung."""
        if not self._rung:
            self.deadline = time.monotonic() + timeout
            self._sleeper = gevent.getcurrent()
            if not self.listed:
                _sweeper.add(self)
            try:
                self._hub.switch()
            finally:
                self._sleeper = None
        rung, self._rung = self._rung, False
        return rung

    def _wake(self) -> None:
        # Whoever slept when this was scheduled may have been killed meanwhile.
        self._scheduled = False
        if self._sleeper is not None:
            self._sleeper.switch()


_sweeper = Sweeper()


class Pump:
    """Hands an upstream's bytes on from the hub's callback; no greenlet waits for them.

    :param take: gets the bytes; returns for how many seconds it waits for more, 0: not at all. It
        may neither wait nor switch to another greenlet than by a `HubBell`.
    :param ended: called once, in a greenlet of its own, with what reading or `take` raised.
    """

    __slots__ = ("_body", "_ended", "_take", "_watcher", "deadline", "listed")

    def __init__(self, body: RawBody, take: Take, ended: Ended) -> None:
        self._body = body
        self._take = take
        self._ended = ended
        self._watcher: Any = None
        self.deadline = 0.0
        self.listed = False

    @property
    def asleep(self) -> bool:
        return self._watcher is not None

    def start(self, descriptor: int, patience: float) -> None:
        """Begin to read; returns at once.

        :param patience: seconds to wait for the first bytes.
        """
        self.deadline = time.monotonic() + patience
        self._watcher = gevent.get_hub().loop.io(descriptor, 1)
        self._watcher.start(self._readable)
        _sweeper.add(self)
        if self._body.buffered:  # what came with the head
            self._readable()

    def time_out(self) -> None:
        """Called by the sweeper."""
        self._end(httpx2.ReadTimeout("The upstream fell silent."))

    def _readable(self) -> None:
        try:
            while (data := self._body.read_now()) is not None:
                patience = self._take(data) if data else 0.0
                if not patience:
                    self._end(None)
                    return
                self.deadline = time.monotonic() + patience
                if not self._body.buffered:
                    return
        except Exception as error:
            self._end(error)

    def _end(self, fault: Exception | None) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            self.deadline = 0.0  # The sweeper need not keep it until then.
            watcher.stop()
            watcher.close()
            gevent.spawn(self._ended, fault)


def pump(body: RawBody, take: Take, ended: Ended, patience: float) -> None:
    """Hand the bytes of `body` to `take` as they come, and then call `ended`; see `Pump`."""
    descriptor = body.watchable()
    if descriptor is not None:
        Pump(body, take, ended).start(descriptor, patience)
        return
    fault: Exception | None = None
    try:
        while patience:
            with gevent.Timeout(patience, httpx2.ReadTimeout("The upstream fell silent.")):
                data = body.read()
            patience = take(data) if data else 0.0
    except Exception as error:
        fault = error
    ended(fault)
