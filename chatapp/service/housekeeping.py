"""Removes what is too old, and ends answers that no worker writes."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Final

from ..answers.outcome import RUNNING, Outcome, Status
from ..answers.registry import INTERRUPTED, AnswerRegistry
from ..conversations.store import Store
from ..errors import Interrupted
from ..eventlog import EventLog
from ..replication.replicas import Replicas
from ..runtime.background import BackgroundTask
from ..runtime.retry_queue import RetryQueue
from ..settings import Settings
from .recorder import stored_fields

MIN_TIDY_SECONDS: Final = 0.25
MAX_TIDY_SECONDS: Final = 60.0
"""Bounds of the seconds between two rounds."""
LOOK_AGAIN_SECONDS: Final = 1.0
"""Seconds between rounds while dead workers' calls are open."""


class Housekeeping:
    """One thread per worker.

    :param owners: the prefix of this chat's owners.
    :param suspect: called with the workers that have open calls: one may have died before its
        lease began.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        event_log: EventLog,
        answers: AnswerRegistry,
        replicas: Replicas,
        retry_queue: RetryQueue,
        owners: str,
        suspect: Callable[[Collection[str]], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._event_log = event_log
        self._answers = answers
        self._replicas = replicas
        self._retry_queue = retry_queue
        self._owners = owners
        self._suspect = suspect
        self._dead: set[str] = set()
        """Workers that may have left calls open."""
        self._background = BackgroundTask("housekeeping", self._tidy)

    def begin(self) -> None:
        """Start, unless it has started."""
        self._background.begin()

    def bury(self, workers: Collection[str]) -> None:
        """End soon what dead workers have left open."""
        self._dead.update(workers)
        self._background.wake()

    def _tidy(self) -> float:
        settings = self._settings
        self._end_what_the_dead_left()
        self._event_log.tidy(
            settings.answer_age, settings.eventlog_max_bytes, settings.push_age, settings.push_kept
        )
        self._end_forgotten()
        if self._event_log.shared:
            self._suspect(self._store.ledger.writers(self._owners))
        most = LOOK_AGAIN_SECONDS if self._dead else MAX_TIDY_SECONDS
        return min(max(settings.answer_age / 4, MIN_TIDY_SECONDS), most)

    def _end_what_the_dead_left(self) -> None:
        """Repeated until nothing is open, since other workers may end some of it."""
        dead = tuple(self._dead)
        if not dead:
            return
        if left_open := self._store.ledger.open_of(dead, self._owners):
            self._end(left_open)
        else:
            self._dead.difference_update(dead)

    def _end_forgotten(self) -> None:
        """End answers that a conversation waits for, and calls, that no event log knows.

        Their worker died before it could write anything, or its in-memory event log died with it.
        """
        before = datetime.now(UTC) - timedelta(seconds=2 * MAX_TIDY_SECONDS)
        waited_for = (each.id for each in self._store.unfinished(before, self._owners))
        self._end({*waited_for, *self._store.ledger.open_before(before, self._owners)})

    def _end(self, answer_ids: Collection[str]) -> None:
        """End answers that nobody writes, except those that our own retry queue may end."""
        for answer_id in answer_ids:
            if self._answers.find(answer_id) or self._retry_queue:
                continue
            record = self._event_log.find(answer_id)
            if record is None:
                outcome = Outcome(error=Interrupted(INTERRUPTED))
                self._store.update(answer_id, status=Status.FAILED, outcome=outcome)
            elif record.status not in RUNNING and (answer := self._replicas.load(record)):
                self._store.update(answer_id, **stored_fields(answer, answer.log.last))
