"""A sign of life from a worker whose event loop is busy, so that nobody takes it for dead."""

import os
import time
from collections.abc import Callable
from typing import Final

from ..eventlog import EventLog
from ..runtime import native
from ..runtime.concurrency import cooperative

BEAT: Final = 0.5
"""Seconds between counts."""
LATE: Final = 1.4 * BEAT
"""Seconds after a count at which the next one is late. With `LOOK` less than the shortest lease."""
LOOK: Final = BEAT / 4
"""Seconds between looks at whether it is."""


class Pulse:
    """Counts in a native thread while the greenlet that should is not let.

    Un-patched there is nothing to do: that thread then runs beside one that computes.

    :param log: where it counts.
    :param worker_id: tells this worker's id.
    :param seconds: after which one that is still busy counts as stuck, and no longer as alive.
    """

    def __init__(self, log: EventLog, worker_id: Callable[[], str], seconds: float) -> None:
        self._log = log
        self._worker_id = worker_id
        self._seconds = seconds
        self._pid: int | None = None
        self._counted_at = 0.0

    def begin(self) -> None:
        """Have a native thread look after the greenlet from now on."""
        if cooperative() and self._pid != os.getpid():
            self._pid = os.getpid()
            self.counted()
            worker = self._worker_id()
            native.start_thread(lambda: self._run(worker))

    def counted(self) -> None:
        """The greenlet counts: the event loop runs."""
        self._counted_at = time.monotonic()

    def end(self) -> None:
        """Count no more."""
        self._pid = None

    def _run(self, worker: str) -> None:
        while self._pid == os.getpid():
            native.sleep(LOOK)
            if LATE <= time.monotonic() - self._counted_at < self._seconds:
                try:
                    self._log.beat_here(worker)
                except Exception:  # noqa: S112 - the greenlet, which may log, meets the same
                    continue
