"""Waits that end in gevent's event loop: waking readers, and all timeouts of a worker's waits.

Moving a chunk from one socket to another costs about as much as the switches and timers around it.
So one callback reads many chunks (`WriteBatch`) and then writes them to the readers that wait for
nothing else (`HubWaker.notify_data`), and all waits of a worker share one timer.
`docs/benchmarks.md` has figures.

A callback must neither wait nor raise. Everything here belongs to one thread: gevent's.
"""

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import gevent

SWEEP: Final = 0.25
"""Seconds between sweeps; a wait may last that much longer."""


class TimedWait(Protocol):
    """Something that waits with a deadline, repeatedly."""

    deadline: float
    """Monotonic seconds."""
    listed: bool
    """Whether the sweeper has it in its list."""

    @property
    def asleep(self) -> bool:
        """Whether it is waiting."""

    def time_out(self) -> None:
        """The deadline has passed."""


class Sweeper:
    """One timer for all waits of this worker: a timer for each would cost more than the wait.

    A sleeper is listed once, and dropped when a sweep finds it awake after its deadline.
    """

    def __init__(self) -> None:
        self._listed: set[TimedWait] = set()
        self._greenlet: Any = None

    def add(self, sleeper: TimedWait) -> None:
        """Add a sleeper that is not in the list."""
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
    """Upstreams that are read together: their data is written after all of them have been read.

    Reads and writes are long paths through the kernel, with a path of ours in between. Many reads
    followed by many writes find their code in the processor's caches; taking turns evicts it, and
    an event costs a sixth more.
    """

    def __init__(self) -> None:
        self.wakers: list[HubWaker] | None = None
        """The wakers whose data is held; None: no batch is open."""

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
        """There is new data. A sleeper that lets it be written sleeps on."""
        if write_batch.wakers is None:
            self.write_or_wake()
        else:
            write_batch.wakers.append(self)

    def write_or_wake(self) -> None:
        """Write the data now, or wake the sleeper for it."""
        if self._woken:
            return
        if self._write_pending is not None:
            try:
                if self._write_pending():
                    return
            except Exception:
                # The sleeper will get the same error where it can raise it. Raised here, one
                # reader's fault would end the answer for all of its readers.
                self._write_pending = None
        self.wake()

    def wake(self) -> None:
        """From any greenlet or the event loop; there, the sleeper runs before this returns."""
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
        """Sleep until woken, about `timeout` seconds at most. Returns whether it was woken.

        :param write_pending: called for `notify_data` instead of waking; returns whether the
            sleeper can sleep on. It may neither wait nor switch to another greenlet.
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
        # The sleeper may have been killed since this was scheduled.
        self._scheduled = False
        if self._sleeper is not None:
            self._sleeper.switch()
