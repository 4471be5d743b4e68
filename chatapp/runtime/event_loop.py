"""Waits that end in gevent's hub: waking readers, and the time-outs of all waits of a worker.

A chunk's way from one socket to the other costs about as much as the switches and timers around it.
So a callback of the hub reads many of them (`WriteBatch`) and then writes them to the readers that
wait for nothing else (`HubWaker.notify_data`), and all waits of a worker share one timer.
`docs/benchmarks.md` has figures.

A callback must neither wait nor raise. Everything here is for one thread: gevent's.
"""

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import gevent

SWEEP: Final = 0.25
"""Seconds between looks for waits that are over; a wait may last that much longer."""


class TimedWait(Protocol):
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
        self._listed: set[TimedWait] = set()
        self._greenlet: Any = None

    def add(self, sleeper: TimedWait) -> None:
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


class WriteBatch:
    """Upstreams that are read in a row: what they bring is written when all of them are read.

    A read and a write are long ways through the kernel, and ours between them is not short. Many of
    one kind and then many of the other find their code in the processor's caches; by turns, each
    pushes the other's out, and an event costs a sixth more.
    """

    def __init__(self) -> None:
        self.wakers: list[HubWaker] | None = None
        """The wakers whose data is held; None: nothing is being read."""

    def __enter__(self) -> None:
        self.wakers = []

    def __exit__(self, *_: object) -> None:
        wakers, self.wakers = self.wakers, None
        for waker in wakers or ():
            waker.write_or_wake()


write_batch: Final = WriteBatch()


class HubWaker:
    """A `wakers.Waker` without a lock and without a timer."""

    __slots__ = ("_hub", "_scheduled", "_sleeper", "_woken", "_write_pending", "deadline", "listed")

    def __init__(self) -> None:
        self.deadline = 0.0
        self.listed = False
        self._hub = gevent.get_hub()
        self._sleeper: Any = None
        self._write_pending: Callable[[], bool] | None = None
        self._woken = False
        self._scheduled = False

    @property
    def asleep(self) -> bool:
        return self._sleeper is not None

    def notify_data(self) -> None:
        """There is something to read. A sleeper that lets it be written sleeps on."""
        if write_batch.wakers is None:
            self.write_or_wake()
        else:
            write_batch.wakers.append(self)

    def write_or_wake(self) -> None:
        """Have the data written now, or wake the sleeper for it."""
        if self._woken:
            return
        if self._write_pending is not None:
            try:
                if self._write_pending():
                    return
            except Exception:
                # The sleeper meets the same where it can raise: not in the hub, which would give
                # the fault of one reader to the answer, and so to all of its readers.
                self._write_pending = None
        self.wake()

    def wake(self) -> None:
        """From any greenlet, or the hub; in the hub, the sleeper runs before this returns."""
        if not self._woken:
            self._woken = True
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
            self._hub.loop.run_callback(self._resume)

    def wait(self, timeout: float, write_pending: Callable[[], bool] | None = None) -> bool:
        """Sleep until woken, about `timeout` seconds at most; whether it was woken.

        :param write_pending: called meanwhile for `notify_data`; whether the sleeper need not wake
            for it. It may neither wait nor switch to another greenlet.
        """
        if not self._woken:
            self.deadline = time.monotonic() + timeout
            self._sleeper, self._write_pending = gevent.getcurrent(), write_pending
            if not self.listed:
                sweeper.add(self)
            try:
                self._hub.switch()
            finally:
                self._sleeper = self._write_pending = None
        woken, self._woken = self._woken, False
        return woken

    def _resume(self) -> None:
        # Whoever slept when this was scheduled may have been killed meanwhile.
        self._scheduled = False
        if self._sleeper is not None:
            self._sleeper.switch()
