"""How one thread sleeps until another has something for it."""

import threading
from collections.abc import Callable
from typing import Protocol


class Wakeable(Protocol):
    """Somebody who sleeps until there is something to do."""

    def wake(self) -> None:
        """Something has changed: end the sleep."""

    def notify_data(self) -> None:
        """The log has grown, and nothing else has changed; less work than `wake` for some."""


class Waker(Wakeable, Protocol):
    """What a reader sleeps on: a `ThreadWaker`, or what does the same cheaper."""

    def wait(self, timeout: float, write_pending: Callable[[], bool] | None = None) -> bool:
        """As `ThreadWaker.wait`.

        :param write_pending: may be called for `notify_data` instead of ending the sleep, by
            whoever has the data; whether the sleeper can sleep on.
        """


class ThreadWaker:
    """Wakes one sleeper. Woken while nobody sleeps, it lets the next sleep end immediately."""

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
        """Sleep until woken, at most `timeout` seconds; whether it was woken."""
        return self._lock.acquire(timeout=max(timeout, 0.0))
