"""How one thread sleeps until another has something for it."""

import threading
from collections.abc import Callable
from typing import Protocol


class Wakeable(Protocol):
    """Something that sleeps until there is work."""

    def wake(self) -> None:
        """End the sleep: something has changed."""

    def notify_data(self) -> None:
        """The log has grown, and nothing else has changed; cheaper than `wake` for some."""


class Waker(Wakeable, Protocol):
    """What a reader sleeps on: a `ThreadWaker`, or something cheaper."""

    def wait(self, timeout: float, write_pending: Callable[[], bool] | None = None) -> bool:
        """As `ThreadWaker.wait`.

        :param write_pending: may be called for `notify_data` instead of ending the sleep, by
            whoever brings the data; returns whether the sleeper can sleep on.
        """


class ThreadWaker:
    """Wakes one sleeper. If none sleeps, the next sleep ends immediately."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wake(self) -> None:
        """From any thread; never blocks."""
        if self._lock.locked():
            try:
                self._lock.release()
            except RuntimeError:  # another thread was faster
                return

    notify_data = wake

    def wait(self, timeout: float, write_pending: object = None) -> bool:  # noqa: ARG002 - `Waker`'s
        """Sleep until woken, at most `timeout` seconds. Returns whether it was woken."""
        return self._lock.acquire(timeout=max(timeout, 0.0))
