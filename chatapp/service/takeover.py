"""Answers whose worker is gone: ended, or gone on with, by the one worker that took them."""

from typing import Final

import msgspec

from ..answers.answer import Answer
from ..answers.events import EventType
from ..answers.registry import INTERRUPTED, Answers
from ..conversations.store import Store
from ..errors import ChatAppError, Interrupted, NotFound
from ..eventlog import Record
from ..generation.continuation import interrupted
from ..generation.generator import Asked, Writing, asked_in
from ..replication.replicas import Mirrors
from ..replication.replicator import Journal
from ..settings import Settings
from ..upstream.client import Upstream

UNKNOWN_MOST: Final = 100_000
"""Events that a writer may have sent to its readers before they were in the event log."""
TAKEOVERS_MOST: Final = 3
"""How often one answer may be continued: what takes down one worker after the other ends there."""


class Takeover:
    """What is done with an answer that `Leases` has taken for this worker."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        upstream: Upstream,
        answers: Answers,
        mirrors: Mirrors,
        journal: Journal,
        writing: Writing,
    ) -> None:
        self._settings = settings
        self._store = store
        self._upstream = upstream
        self._answers = answers
        self._mirrors = mirrors
        self._journal = journal
        self._writing = writing

    def adopt(self, record: Record) -> None:
        """Go on with an answer of a dead worker, or end it; nobody else does."""
        answer = self._mirrors.load(record)
        if answer is None:
            return
        answer.epoch = record.epoch + 1
        if not answer.running:  # Only the record's status was not written.
            self._journal.watch(answer, claimed=True, cursor=answer.log.last)
            return
        cursor = answer.log.last
        if not cursor:
            self._complete(answer)
            self._answers.begin(answer)
        if record.writer is not None:
            skip_unknown(answer)
        self._answers.adopt(answer)
        self._mirrors.drop(answer.id)
        self._journal.watch(answer, claimed=True, cursor=cursor)
        if record.stop:
            self._answers.stop(answer)
        elif self._settings.takeover == "continue" and record.epoch <= TAKEOVERS_MOST:
            self._continue(answer)
        else:
            self._answers.fail(answer, Interrupted(INTERRUPTED))

    def _complete(self, answer: Answer) -> None:
        """What the first event would have told, had it been written."""
        try:
            message = self._store.answer(answer.owner, answer.id)
        except NotFound:
            return
        answer.conversation_id, answer.model = message.conversation_id, message.model

    def _continue(self, answer: Answer) -> None:
        """Ask the model to go on from what is written."""
        try:
            self._writing.resume(answer, self._asked(answer))
        except ChatAppError as error:
            self._answers.fail(answer, interrupted(error))

    def _asked(self, answer: Answer) -> Asked:
        request = msgspec.json.decode(answer.request or b"{}")
        model = answer.model or self._upstream.default_model()
        options = request.get("options") or {}
        if messages := request.get("messages"):
            return Asked(model=model, messages=messages, options=options)
        conversation = self._store.conversation_of(answer.owner, answer.id)
        return asked_in(conversation, answer.id, model, options)


def skip_unknown(answer: Answer) -> None:
    """Leave out the numbers of events that a dead writer may have sent and nobody has kept.

    A reader who has seen one of them comes with a number in between, and gets a snapshot.
    """
    log = answer.log
    log.restart(log.last + UNKNOWN_MOST, log.text(), log.text(EventType.REASONING))
