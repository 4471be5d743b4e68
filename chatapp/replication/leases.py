"""Who is alive, and what becomes of the answers of those who are not.

A worker counts a number up, about twice a second. Who sees another's number stand still, for so
many of its own counts as a lease lasts, takes that worker for dead; no two clocks are compared. A
worker that can't reach the event log counts nothing, and so declares nobody dead. One that was
merely slow finds that its answers are another's: the event log takes no events of an old epoch.
"""

import logging
import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from ..errors import StorageUnavailable
from ..eventlog import EventLog, Record
from ..runtime.background import MAX_PAUSE_SECONDS, BackgroundTask
from .pulse import BEAT, Pulse

logger = logging.getLogger(__name__)

GRACE: Final = round(MAX_PAUSE_SECONDS / BEAT)
"""Counts after the event log was away: it was so for the others, who may pause for longer yet."""


class WorkerId:
    """Names this process by a name that no other worker has, and that an operator understands."""

    def __init__(self) -> None:
        self._pid: int | None = None
        self._id = ""

    def __call__(self) -> str:
        if self._pid != os.getpid():  # the first time, or after a fork
            self._pid = os.getpid()
            self._id = f"{socket.gethostname()[:64]}-{self._pid}-{secrets.token_hex(4)}"
        return self._id


class Leases:
    """The heartbeat of this worker, and its eye on the others.

    :param me: tells this worker's id.
    :param seconds: how long a worker may be silent.
    :param adopt: called with an answer that is this worker's from then on.
    :param owners: how the owners begin whose answers it takes; others belong to another chat.
    :param busy: seconds for which a worker whose event loop is held up still counts.
    """

    def __init__(
        self,
        log: EventLog,
        worker_id: Callable[[], str],
        seconds: float,
        adopt: Callable[[Record], None],
        owners: str = "",
        busy: float = 30.0,
    ) -> None:
        self._log = log
        self._worker_id = worker_id
        self._patience = max(round(seconds / BEAT), 2)
        self._adopt = adopt
        self._owners = owners
        self._seen: dict[str, tuple[int, int]] = {}
        """For each other worker its count, and for how many of ours it has been standing."""
        self._taking: dict[str, Record] = {}
        """Answers that we may have taken, and have not begun with."""
        self._grace = 0
        """For how many of our counts nobody's silence means anything."""
        self._pulse = Pulse(log, worker_id, busy)
        self._background = BackgroundTask("leases", self.beat)

    def begin(self) -> None:
        """Count from now on."""
        self._background.begin()
        self._pulse.begin()

    def leave(self, timeout: float) -> None:
        """Tell that no answer is written here any more.

        :raises StorageUnavailable:
        """
        self._background.end(timeout)
        self._pulse.end()
        self._log.leave([self._worker_id()])

    def beat(self) -> float:
        """Count once, and take over what nobody writes; seconds to the next count.

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
        self._compare(counts)
        alive = [each for each, (_, still) in self._seen.items() if still < self._patience]
        orphans = self._log.orphans([worker_id, *alive])
        unknown = {each.writer for each in orphans if each.writer not in (*self._seen, None)}
        for writer in unknown:  # Not counting yet, or no longer: it gets as long as the others.
            if writer is not None:
                self._seen[writer] = (-1, 0)
        ours = [each for each in orphans if each.owner.startswith(self._owners)]
        self._taking |= {each.id: each for each in ours if each.writer not in unknown}
        self._take()
        self._bury({each.writer for each in orphans})
        return BEAT

    def _take(self) -> None:
        """Become the writer of orphans. What fails is kept: it may be ours, so nobody offers it."""
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
        except Exception:  # The others are not to wait for it.
            logger.exception("answer %s could not be taken over", record.id)

    def _compare(self, counts: dict[str, int]) -> None:
        for writer in {**self._seen, **counts}:
            count = counts.get(writer, -1)
            before, still = self._seen.get(writer, (None, 0))
            silent = count == before and not self._grace
            self._seen[writer] = (count, still + 1 if silent else 0)
        self._grace = max(self._grace - 1, 0)

    def _bury(self, bereaved: set[str | None]) -> None:
        """Forget the dead, once their answers are in other hands."""
        dead = [
            each
            for each, (_, still) in self._seen.items()
            if still >= self._patience and each not in bereaved
        ]
        if dead:
            self._log.leave(dead)
            for each in dead:
                del self._seen[each]
