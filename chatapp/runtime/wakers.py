"""How one thread sleeps until another has something for it."""

import threading
from collections.abc import Callable
from typing import Protocol


class Reader(Protocol):
    """Somebody who sleeps until there is news."""

    def ring(self) -> None:
        """Something has changed."""

    def news(self) -> None:
        """The log has grown, and nothing else has changed; less work than `ring` for some."""


class Sleeper(Reader, Protocol):
    """What a reader sleeps on: a `Bell`, or what does the same cheaper."""

    def wait(self, timeout: float, pass_on: Callable[[], bool] | None = None) -> bool:
        """As `Bell.wait`.

        :param pass_on: may be called instead of ending the sleep for `news`, by whoever has them;
            whether the sleeper can sleep on.
        """


class Bell:
    """Wakes one sleeper. Rung while nobody sleeps, it lets the next sleep end at once."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """From any thread; never blocks."""
        if self._lock.locked():
            try:
                self._lock.release()
            except RuntimeError:  # another thread was faster
                return

    news = ring

    def wait(self, timeout: float, pass_on: object = None) -> bool:  # noqa: ARG002 - `Sleeper`'s
        """Sleep until rung, at most `timeout` seconds; whether it was rung."""
        return self._lock.acquire(timeout=max(timeout, 0.0))
