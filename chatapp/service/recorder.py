"""Records ended answers: in the message, the ledger and a push event to the owner's pages."""

import logging
from typing import Any

from ..answers.answer import Answer, Moved
from ..answers.events import EventType
from ..answers.outcome import Outcome, Status
from ..conversations.ledger import Closed, tokens_said
from ..conversations.ledger_writer import LedgerWriter
from ..conversations.store import Content, Store
from ..errors import InternalError, NotFound, StorageUnavailable
from ..generation.generator import Generator
from ..replication.pubsub import PushChannel
from ..replication.replicator import Replicator
from ..runtime.retry_queue import RetryQueue
from .starter import about

logger = logging.getLogger(__name__)


class Recorder:
    """`AnswerRegistry` calls it at the end of each answer."""

    def __init__(self, store: Store, retry_queue: RetryQueue, ledger_writer: LedgerWriter) -> None:
        self._store = store
        self._retry_queue = retry_queue
        self._ledger_writer = ledger_writer

    def connect(self, replicator: Replicator, pubsub: PushChannel, generator: Generator) -> None:
        """Set what is built from the registry, and so after this; before any answer starts."""
        self._replicator = replicator
        self._pubsub = pubsub
        self._generator = generator

    def retired(self, answer: Answer) -> None:
        self._replicator.wake()
        self._generator.ended(answer)

    def save(self, answer: Answer) -> None:
        """Record an answer that has ended; called before its last event is written.

        :raises Moved: another worker owns it now.
        """
        self._replicator.confirm(answer)
        if answer.moved:
            raise Moved
        if answer.conversation_id is not None:
            self._ledger_writer.settle(answer.id)
            fields = stored_fields(answer, answer.log.last + 1)
            self._retry_queue.do(lambda: self._write_down(answer, fields))
        else:
            self._ledger_writer.call_ends(closed_call(answer))
        self._pubsub.publish("answer", about(answer, "finished"), to=answer.owner)

    def _write_down(self, answer: Answer, fields: dict[str, Any]) -> None:
        if title := self._store_what_is_taken(answer, fields):
            renamed = {"action": "renamed", "id": answer.conversation_id, "title": title}
            self._pubsub.publish("conversation", renamed, to=answer.owner)

    def _store_what_is_taken(self, answer: Answer, fields: dict[str, Any]) -> str | None:
        """Store an ended answer; where the database refuses that, at least that it has ended.

        A message that stays `running` would block its conversation.
        """
        try:
            return self._store.update(answer.id, **fields)
        except StorageUnavailable:
            raise
        except Exception:
            logger.exception("the end of answer %s can't be stored as it is", answer.id)
        error = InternalError("This answer could not be stored. Ask again.")
        outcome = Outcome(error=error)
        return self._store.update(answer.id, status=Status.FAILED, outcome=outcome)

    def is_wanted(self, answer: Answer) -> bool:
        """Whether an answer that the event log has lost should be written there again."""
        if answer.conversation_id is None:
            return True
        try:
            self._store.answer(answer.owner, answer.id)
        except NotFound:
            return False  # Its conversation was deleted.
        except StorageUnavailable:
            return True
        return True


def closed_call(answer: Answer) -> Closed:
    """What the ledger keeps of an answer outside of conversations that has ended."""
    said = tokens_said(answer.outcome, answer.log.text(), answer.log.text(EventType.REASONING))
    return Closed(
        answer.id,
        answer.status,
        answer.outcome,
        answer.model,
        running_key=answer.running_key,
        said=said,
    )


def stored_fields(answer: Answer, last_event: int) -> dict[str, Any]:
    """The fields of the stored message of an answer that has ended."""
    return {
        "model": answer.model,
        "content": Content(answer.log.text()),
        "reasoning": answer.log.text(EventType.REASONING),
        "status": answer.status,
        "outcome": answer.outcome,
        "last_event": last_event,
    }
