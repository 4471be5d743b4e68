"""What an operator can do about messages that nobody writes any more."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from ..answers.outcome import RUNNING, Outcome, Status
from ..answers.registry import INTERRUPTED
from ..conversations.store import Store
from ..errors import Interrupted
from ..eventlog import EventLog, Record
from ..replication.replicas import Replicas
from .recorder import stored_fields

YOUNG_SECONDS: Final = 10.0
"""Messages that are newer may not be in the event log yet."""


@dataclass(frozen=True, kw_only=True)
class Repair:
    """Ends them, in a process of its own, beside servers that run or in their absence."""

    store: Store
    event_log: EventLog
    replicas: Replicas
    worker_id: Callable[[], str]
    lease: float
    """Seconds of silence after which a worker is taken for dead."""
    owners: str
    """How the owners of this chat begin."""

    def end_unwritten(self) -> int:
        """How many messages were ended. Takes a little longer than the lease where there are any.

        :raises StorageUnavailable:
        """
        before = datetime.now(UTC) - timedelta(seconds=YOUNG_SECONDS)
        messages = self.store.unfinished(before, self.owners)
        alive = self._alive() if messages else set()
        return sum(self._end(message.id, alive) for message in messages)

    def _alive(self) -> set[str]:
        """The workers that count."""
        me = self.worker_id()
        earlier = self.event_log.beat(me)
        time.sleep(self.lease)
        counts = self.event_log.beat(me)
        self.event_log.leave([me])
        return {each for each, count in counts.items() if count != earlier.get(each)} - {me}

    def _end(self, answer_id: str, alive: set[str]) -> bool:
        """Whether there was something to end."""
        record = self.event_log.find(answer_id)
        if record is None:
            outcome = Outcome(error=Interrupted(INTERRUPTED))
            self.store.update(answer_id, status=Status.FAILED, outcome=outcome)
        elif record.status not in RUNNING:
            return self._keep(record)
        elif record.writer in alive or not self._take(record):
            return False
        return True

    def _take(self, record: Record) -> bool:
        """End what a dead worker has left; nobody else does."""
        if not self.event_log.take(record.id, record.epoch, self.worker_id()):
            return False
        taken = self.event_log.find(record.id)
        answer = self.replicas.load(taken) if taken else None
        if answer is not None:
            answer.outcome = Outcome(error=Interrupted(INTERRUPTED))
            fields = stored_fields(answer, answer.log.last) | {"status": Status.FAILED}
            self.store.update(record.id, **fields)
            self.event_log.discard([record.id])
        return answer is not None

    def _keep(self, record: Record) -> bool:
        """Keep what an answer has become that ended without it."""
        answer = self.replicas.load(record)
        if answer is not None:
            self.store.update(record.id, **stored_fields(answer, answer.log.last))
        return answer is not None
