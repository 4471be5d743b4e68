"""Background work, each kind in one thread per worker."""

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from ..errors import Misconfigured, StorageUnavailable
from .wakers import ThreadWaker

logger = logging.getLogger(__name__)

IDLE: Final = 3600.0
"""Seconds after which work that waits to be woken is called anyway."""
MIN_PAUSE_SECONDS: Final = 0.25
MAX_PAUSE_SECONDS: Final = 2.0
"""Seconds between attempts while something that the work needs is down."""


class BackgroundTask:
    """Calls `work` again and again, one call after the other.

    The thread starts with the first `wake` in a process, since threads do not survive a fork. If
    `work` raises, that is logged, and it is tried again after growing pauses. `StorageUnavailable`
    is expected to pass and logged only once.

    :param name: of the thread, and in log lines.
    :param work: returns the seconds to its next call; None: not before the next `wake`.
    """

    def __init__(self, name: str, work: Callable[[], float | None]) -> None:
        self._name = name
        self._work = work
        self._lock = threading.Lock()
        self._waker = ThreadWaker()
        self._pid: int | None = None
        self._thread: threading.Thread | None = None
        self._ending = False
        self.failures = 0
        """Consecutive failed calls."""

    def begin(self) -> None:
        """Start calling `work`, unless started."""
        if self._pid != os.getpid():
            self._start()

    def wake(self) -> None:
        """Have `work` called soon."""
        self.begin()
        self._waker.wake()

    def end(self, timeout: float) -> None:
        """Stop; wait for a running call, at most `timeout` seconds."""
        self._ending = True
        self._waker.wake()
        thread = self._thread
        if thread is not None and self._pid == os.getpid():
            thread.join(timeout)

    def _start(self) -> None:
        with self._lock:
            if self._pid == os.getpid() or self._ending:
                return
            self._pid = os.getpid()
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        pause: float | None = 0.0
        while not self._ending:
            if pause != 0.0:
                self._waker.wait(IDLE if pause is None else pause)
            if not self._ending:
                pause = self._attempt()

    def _attempt(self) -> float | None:
        try:
            pause = self._work()
        except Exception as error:
            return self._failed(error)
        if self.failures:
            logger.warning("%s: works again", self._name)
            self.failures = 0
        return pause

    def _failed(self, error: Exception) -> float:
        if not isinstance(error, StorageUnavailable):
            logger.error("%s failed; it is tried again", self._name, exc_info=error)
        elif not (self.failures or isinstance(error, Misconfigured)):  # That is told already.
            logger.warning("%s: %s It is tried again until it works.", self._name, error)
        self.failures += 1
        pause = min(MIN_PAUSE_SECONDS * 2.0 ** min(self.failures - 1, 10), MAX_PAUSE_SECONDS)
        # A wake-up must not shorten the pause: it would not help.
        until = time.monotonic() + pause
        while not self._ending and (left := until - time.monotonic()) > 0:
            self._waker.wait(left)
        return 0.0
