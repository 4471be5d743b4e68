"""Counts in this worker's memory."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from .base import Charge, Full, longest

MAX_KEYS: Final = 20_000
"""Counts of single owners and addresses, of some 200 bytes each."""


class MemoryCounts:
    """Bounded: beyond `MAX_KEYS`, the count that was not added to for longest is dropped.

    The counts of everybody are kept apart, and are never dropped.

    :param clock: seconds, never decreasing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._single: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """The end of a window, and how many are in it."""
        self._shared: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._single) + len(self._shared)

    def take(self, charges: Sequence[Charge]) -> Full | None:
        with self._lock:
            now = self._clock()
            full = [
                Full(charge, ends - now)
                for charge in charges
                for ends, count in [self._of(charge).get(charge.key, (now, 0))]
                if ends > now and count >= charge.rate.most
            ]
            if full:
                return longest(full)
            for charge in charges:
                counts = self._of(charge)
                ends, count = counts.pop(charge.key, (now, 0))
                if ends <= now:
                    ends, count = now + charge.rate.seconds, 0
                counts[charge.key] = ends, count + 1
            while len(self._single) > MAX_KEYS:
                self._single.popitem(last=False)
        return None

    def _of(self, charge: Charge) -> OrderedDict[str, tuple[float, int]]:
        return self._shared if charge.is_shared else self._single
