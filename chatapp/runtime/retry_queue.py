"""Writes that must happen: immediately, or else as soon as the storage is back."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..errors import StorageUnavailable
from .background import BackgroundTask

logger = logging.getLogger(__name__)

T = TypeVar("T")


def write_apart(
    write: Callable[[Sequence[T]], Any],
    items: Sequence[T],
    settled: Callable[[int], None] = lambda _count: None,
) -> list[T]:
    """Write items together; if some can't be written, the others without them.

    :param write: writes all of them or none.
    :param settled: called with a number of items, in their order, when these need nothing more.
    :returns: those that were refused, which are logged.
    :raises StorageUnavailable: what has become of those that are not settled is unknown.
    """
    try:
        write(items)
        refused: list[T] = []
    except StorageUnavailable:
        raise
    except Exception:
        if len(items) > 1:
            half = len(items) // 2
            first = write_apart(write, items[:half], settled)
            return first + write_apart(write, items[half:], settled)
        logger.exception("an entry can't be stored and was dropped")
        refused = list(items)
    settled(len(items))
    return refused


class RetryQueue:
    """Does writes one after the other, in order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], Any]] = deque()
        self._background = BackgroundTask("storage", self._deliver)
        self._empty = threading.Event()
        self._empty.set()

    def __len__(self) -> int:
        """How many writes are waiting."""
        return len(self._waiting)

    def do(self, write: Callable[[], Any]) -> bool:
        """Write now, or later if the storage is down. Returns whether it is done.

        :param write: may be called again when its outcome is unknown.
        """
        with self._lock:
            behind = bool(self._waiting)
        if not behind:
            try:
                write()
                return True
            except StorageUnavailable:
                pass
        self.later(write)
        return False

    def later(self, write: Callable[[], Any]) -> None:
        """Write in the background."""
        with self._lock:
            self._waiting.append(write)
            self._empty.clear()
        self._background.wake()

    def join(self, timeout: float) -> bool:
        """Wait until the queue is empty, at most `timeout` seconds. Returns whether it is."""
        return self._empty.wait(timeout)

    def _deliver(self) -> float | None:
        while self._waiting:
            try:
                self._waiting[0]()
            except StorageUnavailable:
                raise
            except Exception:  # It would fail again, and block the writes behind it.
                logger.exception("a write that waited for the storage failed and was dropped")
            self._drop_first()
        return None

    def _drop_first(self) -> None:
        with self._lock:
            self._waiting.popleft()
            if not self._waiting:
                self._empty.set()
