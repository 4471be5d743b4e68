"""Writes that must happen, if not at once then as soon as the storage is back."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from ..errors import StorageUnavailable
from .background import BackgroundTask

logger = logging.getLogger(__name__)


class RetryQueue:
    """Keeps writes in their order, and does them one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], Any]] = deque()
        self._background = BackgroundTask("storage", self._deliver)
        self._empty = threading.Event()
        self._empty.set()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def do(self, write: Callable[[], Any]) -> bool:
        """Do it now; where the storage is away, later. Whether it is done.

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
        """Do it in the background."""
        with self._lock:
            self._waiting.append(write)
            self._empty.clear()
        self._background.wake()

    def join(self, timeout: float) -> bool:
        """Wait until nothing waits, at most `timeout` seconds; whether nothing does."""
        return self._empty.wait(timeout)

    def _deliver(self) -> float | None:
        while self._waiting:
            try:
                self._waiting[0]()
            except StorageUnavailable:
                raise
            except Exception:  # It would fail again, and those behind it would wait for ever.
                logger.exception("a write that waited for the storage failed, and is dropped")
            self._drop_first()
        return None

    def _drop_first(self) -> None:
        with self._lock:
            self._waiting.popleft()
            if not self._waiting:
                self._empty.set()
