"""Orphaned answers: the one worker that claimed them ends or continues them."""

from typing import Final

import msgspec

from ..answers.answer import Answer
from ..answers.registry import INTERRUPTED, AnswerRegistry
from ..conversations.store import Store
from ..errors import ChatAppError, Interrupted, NotFound
from ..eventlog import Record
from ..generation.continuation import interrupted
from ..generation.generator import Generator, Prompt, prompt_for
from ..replication.replicas import Replicas
from ..replication.replicator import Replicator
from ..settings import Settings
from ..upstream.client import Upstream

MAX_UNKNOWN_EVENTS: Final = 100_000
"""Upper bound of the events that a writer may have sent before they were in the event log."""
MAX_CRASHES: Final = 3
"""Crashed writers of an answer that is still continued: it may be what crashes them."""


class Takeover:
    """Ends or continues an answer that `Leases` has claimed for this worker."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        upstream: Upstream,
        answers: AnswerRegistry,
        replicas: Replicas,
        replicator: Replicator,
        generator: Generator,
    ) -> None:
        self._settings = settings
        self._store = store
        self._upstream = upstream
        self._answers = answers
        self._replicas = replicas
        self._replicator = replicator
        self._generator = generator

    def adopt(self, record: Record) -> None:
        """Continue or end an answer of a dead worker; no other worker does."""
        answer = self._replicas.load(record)
        if answer is None:
            return
        answer.epoch = record.epoch + 1
        if not answer.running:  # Only the record's status is missing.
            self._replicator.watch(answer, claimed=True, cursor=answer.log.last)
            return
        cursor = answer.log.last
        if not cursor:
            self._complete(answer)
            self._answers.begin(answer)
        crashes = record.crashes
        if record.writer is not None:  # else it was handed over
            crashes += 1
            skip_unknown(answer)
        self._answers.adopt(answer)
        self._replicas.drop(answer.id)
        self._replicator.watch(answer, claimed=True, cursor=cursor)
        if record.stop:
            self._answers.stop(answer)
        elif self._settings.takeover == "continue" and crashes <= MAX_CRASHES:
            self._continue(answer)
        else:
            self._answers.fail(answer, Interrupted(INTERRUPTED))

    def _complete(self, answer: Answer) -> None:
        """Fill in what the first event would have said."""
        try:
            message = self._store.answer(answer.owner, answer.id)
        except NotFound:
            return
        answer.conversation_id, answer.model = message.conversation_id, message.model

    def _continue(self, answer: Answer) -> None:
        """Ask the model to continue from the text so far."""
        try:
            self._generator.resume(answer, self._prompt(answer))
        except ChatAppError as error:
            self._answers.fail(answer, interrupted(error))

    def _prompt(self, answer: Answer) -> Prompt:
        request = msgspec.json.decode(answer.request or b"{}")
        model = answer.model or self._upstream.default_model()
        options = request.get("options") or {}
        if messages := request.get("messages"):
            return Prompt(model=model, messages=messages, options=options)
        conversation = self._store.conversation_of(answer.owner, answer.id)
        return prompt_for(conversation, answer.id, model, options, self._settings)


def skip_unknown(answer: Answer) -> None:
    """Skip the numbers of events that a dead writer may have sent but nobody stored.

    A reader that has one of them comes with a number in between, and gets a snapshot.
    """
    log = answer.log
    written = log.transcript()
    log.restart(written._replace(number=written.number + MAX_UNKNOWN_EVENTS))
