"""Writes ledger entries of answers without a conversation, in batches and in the background."""

import contextlib
import threading
from typing import Final

from ..answers.slot import Slot
from ..errors import StorageUnavailable
from ..runtime.background import BackgroundTask
from ..runtime.retry_queue import write_apart
from .ledger import Closed, Ledger, Opened

RECORDED_WITHIN: Final = 0.25
"""Seconds between writes."""


class LedgerWriter:
    """Records calls in the ledger, in order; later, if the database is down."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._entering = threading.Lock()
        self._entries: list[Opened | Closed] = []
        self._background = BackgroundTask("ledger", self._work)

    def call_begins(self, call: Opened, slot: Slot) -> None:
        """The upstream is about to be called for an answer.

        :raises TooManyRunning: there is no place for it. Not checked while the database is down.
        """
        before = [each for each in tuple(self._entries) if each.running_key == call.running_key]
        try:
            admitted = self._ledger.admit(before, call, slot)
        except StorageUnavailable:
            self._add(call)
            return
        except Exception:  # One that waits may be refused; apart, it holds nothing up.
            self._enter()
            admitted = self._ledger.admit((), call, slot)
        if not admitted:
            raise slot.refusal()

    def call_goes_on(self, closed: Closed, call: Opened) -> None:
        """The upstream is called again for an answer."""
        self._add(closed, call)

    def call_ends(self, closed: Closed) -> None:
        """An answer's call has ended."""
        self._add(closed)

    def settle(self, answer_id: str) -> None:
        """Record an answer's waiting entries now, because its end is recorded elsewhere next."""
        if any(entry.answer_id == answer_id for entry in tuple(self._entries)):
            with contextlib.suppress(StorageUnavailable):
                self._enter()

    def close(self, timeout: float) -> None:
        """Record what is left, for at most `timeout` seconds."""
        self._background.end(timeout)
        with contextlib.suppress(StorageUnavailable):
            self._enter()

    def _add(self, *entries: Opened | Closed) -> None:
        with self._lock:
            self._entries += entries
        self._background.begin()

    def _work(self) -> float:
        self._enter()
        return RECORDED_WITHIN

    def _enter(self) -> None:
        with self._entering:
            while entries := self._waiting():
                refused = write_apart(self._ledger.note, entries, self._settled)
                # Open calls would count as running answers.
                ends = [(each, _bare(each)) for each in refused if isinstance(each, Closed)]
                self._add(*(bare for each, bare in ends if bare != each))

    def _waiting(self) -> list[Opened | Closed]:
        with self._lock:
            return self._entries[:]

    def _settled(self, count: int) -> None:
        with self._lock:
            del self._entries[:count]


def _bare(closed: Closed) -> Closed:
    """That a call has ended, and nothing else that may be refused."""
    return Closed(closed.answer_id, "failed", running_key=closed.running_key)
