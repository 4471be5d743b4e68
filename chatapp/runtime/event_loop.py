"""Waits that end in gevent's hub: waking readers, and the time-outs of all waits of a worker.

A chunk's way from one socket to the other costs about as much as the switches and timers around it.
So a callback of the hub reads many of them (`Row`), and then writes them to those who wait for
nothing else (`HubBell.news`); and all waits of a worker share one timer. `docs/benchmarks.md` has
figures.

A callback must neither wait nor raise. Everything here is for one thread: gevent's.
"""

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import gevent

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


sweeper: Final = Sweeper()


class Row:
    """Upstreams that are read in a row: what they bring is passed on when all of them are read.

    A read and a write are long ways through the kernel, and ours between them is not short. Many of
    one kind and then many of the other find their code in the processor's caches; by turns, each
    pushes the other's out, and an event costs a sixth more.
    """

    def __init__(self) -> None:
        self.bells: list[HubBell] | None = None
        """Whose news are held; None: nothing is being read."""

    def __enter__(self) -> None:
        self.bells = []

    def __exit__(self, *_: object) -> None:
        bells, self.bells = self.bells, None
        for bell in bells or ():
            bell.pass_on()


row: Final = Row()


class HubBell:
    """`following.Bell` without a lock and without a timer."""

    __slots__ = ("_hub", "_pass_on", "_rung", "_scheduled", "_sleeper", "deadline", "listed")

    def __init__(self) -> None:
        self.deadline = 0.0
        self.listed = False
        self._hub = gevent.get_hub()
        self._sleeper: Any = None
        self._pass_on: Callable[[], bool] | None = None
        self._rung = False
        self._scheduled = False

    @property
    def asleep(self) -> bool:
        return self._sleeper is not None

    def news(self) -> None:
        """There is something to read: a sleeper that lets it be passed on sleeps on."""
        if row.bells is None:
            self.pass_on()
        else:
            row.bells.append(self)

    def pass_on(self) -> None:
        """Have the news passed on now, or wake the sleeper for them."""
        if self._rung:
            return
        if self._pass_on is not None:
            try:
                if self._pass_on():
                    return
            except Exception:
                # The sleeper meets the same where it can raise: not in the hub, which would give
                # the fault of one reader to the answer, and so to all of its readers.
                self._pass_on = None
        self.ring()

    def ring(self) -> None:
        """From any greenlet, or the hub; in the hub, the sleeper runs before this returns."""
        if not self._rung:
            self._rung = True
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

    def wait(self, timeout: float, pass_on: Callable[[], bool] | None = None) -> bool:
        """Sleep until rung, about `timeout` seconds at the most; whether it was rung.

        :param pass_on: called meanwhile for `news`; whether the sleeper need not wake for them. It
            may neither wait nor switch to another greenlet.
        """
        if not self._rung:
            self.deadline = time.monotonic() + timeout
            self._sleeper, self._pass_on = gevent.getcurrent(), pass_on
            if not self.listed:
                sweeper.add(self)
            try:
                self._hub.switch()
            finally:
                self._sleeper = self._pass_on = None
        rung, self._rung = self._rung, False
        return rung

    def _wake(self) -> None:
        # Whoever slept when this was scheduled may have been killed meanwhile.
        self._scheduled = False
        if self._sleeper is not None:
            self._sleeper.switch()
