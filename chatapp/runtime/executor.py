"""Runs blocking work: in a few native threads under gevent, else in the calling thread."""

import threading
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from gevent import monkey
from gevent.threadpool import ThreadPool

from ..errors import StorageUnavailable
from .native import enter_native_thread

T = TypeVar("T")

WAIT_SECONDS: Final = 5.0
"""Seconds that a real thread waits for its turn."""


class Executor(Protocol):
    """Runs a limited number of calls concurrently; further callers wait."""

    def call(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises."""


def executor(width: int) -> Executor:
    """An executor for `width` concurrent calls."""
    return (
        NativeThreadExecutor(width)
        if monkey.is_module_patched("threading")
        else BoundedInlineExecutor(width)
    )


class NativeThreadExecutor:
    """Dedicated native threads, which last as long as the process.

    gevent's shared threads also resolve names, and a busy database would delay that. What runs here
    must neither log nor share a lock with greenlets (`native`).
    """

    def __init__(self, width: int) -> None:
        self._threads = ThreadPool(width)

    def call(self, work: Callable[[], T]) -> T:
        """The calling greenlet waits; if it is killed, the work continues."""

        def outcome() -> tuple[Any, BaseException | None]:
            enter_native_thread()
            # gevent would print an exception that leaves a thread.
            try:
                return work(), None
            except BaseException as error:
                return None, error

        result, error = self._threads.apply(outcome)
        if error is not None:
            raise error
        value: T = result
        return value


class BoundedInlineExecutor:
    """Runs work in the calling threads, a limited number at a time."""

    def __init__(self, width: int) -> None:
        self._free = threading.BoundedSemaphore(width)

    def call(self, work: Callable[[], T]) -> T:
        """:raises StorageUnavailable: it was not this thread's turn in time."""
        if not self._free.acquire(timeout=WAIT_SECONDS):
            raise StorageUnavailable("The server is too busy at the moment. Try again in 5 s.")
        try:
            return work()
        finally:
            self._free.release()
