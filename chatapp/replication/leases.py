"""Which workers are alive, and what happens to the answers of dead ones.

Each worker increments a counter about twice a second. A worker whose counter has not moved for the
length of a lease, measured in the observer's own counts, is presumed dead; clocks are never
compared. A worker that can't reach the event log observes nothing, so it declares nobody dead. One
that was only slow finds that it has lost its answers: the event log rejects events of old epochs.
"""

import logging
import os
import secrets
import socket
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

from ..errors import StorageUnavailable
from ..eventlog import EventLog, Record
from ..runtime.background import MAX_PAUSE_SECONDS, BackgroundTask
from .pulse import BEAT, Pulse

logger = logging.getLogger(__name__)

GRACE: Final = round(MAX_PAUSE_SECONDS / BEAT)
"""Counts of grace after an outage of the event log: other workers may still be waiting to retry."""


class WorkerId:
    """A unique name for this process that an operator understands."""

    def __init__(self) -> None:
        self._pid: int | None = None
        self._id = ""

    def __call__(self) -> str:
        if self._pid != os.getpid():  # the first time, or after a fork
            self._pid = os.getpid()
            self._id = f"{socket.gethostname()[:64]}-{self._pid}-{secrets.token_hex(4)}"
        return self._id


class Leases:
    """The heartbeat of this worker, and its view of the others'.

    :param worker_id: returns this worker's id.
    :param seconds: how long a worker may be silent.
    :param adopt: called with an answer that this worker has claimed.
    :param owners: the prefix of the owners whose answers it claims; others belong to another chat.
    :param busy: seconds for which a worker whose event loop is blocked still counts as alive.
    :param buried: called with dead workers, once all of their answers have been claimed.
    """

    def __init__(
        self,
        log: EventLog,
        worker_id: Callable[[], str],
        seconds: float,
        adopt: Callable[[Record], None],
        owners: str = "",
        busy: float = 30.0,
        buried: Callable[[Collection[str]], None] = lambda _: None,
    ) -> None:
        self._log = log
        self._worker_id = worker_id
        self._patience = max(round(seconds / BEAT), 2)
        self._adopt = adopt
        self._owners = owners
        self._buried = buried
        self._suspected: Collection[str] = ()
        self._seen: dict[str, tuple[int, int]] = {}
        """For each other worker, its counter and for how many of our counts it has not moved."""
        self._taking: dict[str, Record] = {}
        """Answers that we may have claimed but not yet adopted."""
        self._grace = 0
        """For how many more of our counts silence means nothing."""
        self._pulse = Pulse(log, worker_id, busy)
        self._background = BackgroundTask("leases", self.beat)

    def begin(self) -> None:
        """Start counting."""
        self._background.begin()
        self._pulse.begin()

    def suspect(self, writers: Collection[str]) -> None:
        """Presume these dead, too, unless their counters move within a lease."""
        self._suspected = writers

    def leave(self, timeout: float) -> None:
        """Sign off: this worker writes no answers any more.

        :raises StorageUnavailable:
        """
        self._background.end(timeout)
        self._pulse.end()
        self._log.leave([self._worker_id()])

    def beat(self) -> float:
        """Count once, and claim orphans. Returns the seconds to the next count.

        :raises StorageUnavailable:
        """
        worker_id = self._worker_id()
        self._pulse.counted()
        try:
            counts = self._log.beat(worker_id)
        except StorageUnavailable:
            self._grace = GRACE
            raise
        counts.pop(worker_id, None)
        for suspect in {*self._suspected} - {worker_id}:
            self._seen.setdefault(suspect, (-1, 0))
        self._suspected = ()
        self._compare(counts)
        alive = [each for each, (_, still) in self._seen.items() if still < self._patience]
        orphans = self._log.orphans([worker_id, *alive])
        unknown = {each.writer for each in orphans if each.writer not in (*self._seen, None)}
        for writer in unknown:  # It has not counted yet, or no longer does: it gets a full lease.
            if writer is not None:
                self._seen[writer] = (-1, 0)
        ours = [each for each in orphans if each.owner.startswith(self._owners)]
        self._taking |= {each.id: each for each in ours if each.writer not in unknown}
        self._take()
        self._bury({each.writer for each in orphans})
        return BEAT

    def _take(self) -> None:
        """Claim orphans. A failed claim is kept, since it may have succeeded."""
        for record in tuple(self._taking.values()):
            if self._log.take(record.id, record.epoch, self._worker_id()):
                logger.warning("answer %s of %s is taken over", record.id, record.writer)
                # From here on the former writer writes nothing: the log goes as far as it will.
                if taken := self._log.find(record.id):
                    self._begin_with(replace(record, last_event=taken.last_event))
            del self._taking[record.id]

    def _begin_with(self, record: Record) -> None:
        try:
            self._adopt(record)
        except StorageUnavailable:
            raise
        except Exception:  # It must not hold up the others.
            logger.exception("answer %s could not be taken over", record.id)

    def _compare(self, counts: dict[str, int]) -> None:
        for writer in {**self._seen, **counts}:
            count = counts.get(writer, -1)
            before, still = self._seen.get(writer, (None, 0))
            silent = count == before and not self._grace
            self._seen[writer] = (count, still + 1 if silent else 0)
        self._grace = max(self._grace - 1, 0)

    def _bury(self, bereaved: set[str | None]) -> None:
        """Forget dead workers once their answers have been claimed."""
        dead = [
            each
            for each, (_, still) in self._seen.items()
            if still >= self._patience and each not in bereaved
        ]
        if dead:
            self._log.leave(dead)
            for each in dead:
                del self._seen[each]
            self._buried(dead)
