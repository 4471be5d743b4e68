"""Where blocking work is done: in a few native threads under gevent, else where it is called."""

import threading
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from gevent import monkey
from gevent.threadpool import ThreadPool

from ..errors import StorageUnavailable
from .native import enter_native_thread

T = TypeVar("T")

WAIT_SECONDS: Final = 5.0
"""Un-patched, how long a thread waits for its turn."""


class Executor(Protocol):
    """Does at most so many things at once; who comes then waits."""

    def call(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises."""


def executor(width: int) -> Executor:
    """A lane for `width` things at once."""
    return (
        NativeThreadExecutor(width)
        if monkey.is_module_patched("threading")
        else BoundedInlineExecutor(width)
    )


class NativeThreadExecutor:
    """Native threads of their own, which last as long as the process.

    gevent's shared ones also look names up: a busy database would keep those waiting. What they do
    must log nothing and share no lock with greenlets (`native`).
    """

    def __init__(self, width: int) -> None:
        self._threads = ThreadPool(width)

    def call(self, work: Callable[[], T]) -> T:
        """The greenlet that calls waits; when it is killed meanwhile, the work goes on."""

        def outcome() -> tuple[Any, BaseException | None]:
            enter_native_thread()
            # gevent would print what leaves a thread as an exception.
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
    """The calling threads themselves, so many at once."""

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
