"""Lets few searches read at one time: each looks through all that its owner has written."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Final

from ..errors import SearchBusy

MAX_PER_OWNER: Final = 2
"""One that runs, and one that waits: that of the next letters typed."""


class Searches:
    """The searches of one worker.

    :param most: how many may run.
    :param timeout: seconds that one may wait for its turn.
    """

    def __init__(self, most: int, timeout: float) -> None:
        self.timeout = timeout
        self._turns = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._owners: Counter[str] = Counter()

    @contextlib.contextmanager
    def turn(self, owner: str) -> Iterator[None]:
        """One search, once it is its turn.

        :raises SearchBusy: the owner has enough of them, or the others take too long.
        """
        with self._lock:
            if self._owners[owner] >= MAX_PER_OWNER:
                raise busy("You are searching already.")
            self._owners[owner] += 1
        try:
            if not self._turns.acquire(timeout=self.timeout):
                raise busy("Others are searching.")
            try:
                yield
            finally:
                self._turns.release()
        finally:
            with self._lock:
                self._owners[owner] -= 1
                if not self._owners[owner]:
                    del self._owners[owner]


def busy(why: str) -> SearchBusy:
    return SearchBusy(f"{why} Try again in 5 s.", retry_after=5)
