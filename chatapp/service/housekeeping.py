"""Removes what is too old, and ends answers that no worker writes."""

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


class Housekeeping:
    """One thread per worker.

    :param owners: the prefix of this chat's owners.
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
    ) -> None:
        self._settings = settings
        self._store = store
        self._event_log = event_log
        self._answers = answers
        self._replicas = replicas
        self._retry_queue = retry_queue
        self._owners = owners
        self._background = BackgroundTask("housekeeping", self._tidy)

    def begin(self) -> None:
        """Start, unless it has started."""
        self._background.begin()

    def _tidy(self) -> float:
        settings = self._settings
        self._event_log.tidy(
            settings.answer_age, settings.eventlog_max_bytes, settings.push_age, settings.push_kept
        )
        self._end_forgotten()
        return min(max(settings.answer_age / 4, MIN_TIDY_SECONDS), MAX_TIDY_SECONDS)

    def _end_forgotten(self) -> None:
        """End answers that a conversation waits for but no event log knows.

        Their worker died before it could write anything, or its in-memory event log died with it.
        """
        before = datetime.now(UTC) - timedelta(seconds=2 * MAX_TIDY_SECONDS)
        for message in self._store.unfinished(before, self._owners):
            if self._answers.find(message.id) or self._retry_queue:
                continue
            record = self._event_log.find(message.id)
            if record is None:
                outcome = Outcome(error=Interrupted(INTERRUPTED))
                self._store.update(message.id, status=Status.FAILED, outcome=outcome)
            elif record.status not in RUNNING and (answer := self._replicas.load(record)):
                self._store.update(message.id, **stored_fields(answer, answer.log.last))
