"""Keeps what ended answers have become: the message, the ledger, what the owner's pages show."""

from typing import Any

from ..answers.answer import Answer, Moved
from ..answers.events import EventType
from ..conversations.ledger import Closed
from ..conversations.ledger_writer import LedgerWriter
from ..conversations.store import Content, Store
from ..errors import NotFound, StorageUnavailable
from ..generation.generator import Generator
from ..replication.pubsub import PushChannel
from ..replication.replicator import Replicator
from ..runtime.retry_queue import RetryQueue
from .starter import about


class Recorder:
    """Told by `AnswerRegistry` of each end."""

    def __init__(self, store: Store, retry_queue: RetryQueue, ledger_writer: LedgerWriter) -> None:
        self._store = store
        self._retry_queue = retry_queue
        self._ledger_writer = ledger_writer

    def connect(self, replicator: Replicator, pubsub: PushChannel, generator: Generator) -> None:
        """Give what is made from the registry, and so after this; before any answer begins."""
        self._replicator = replicator
        self._pubsub = pubsub
        self._generator = generator

    def retired(self, answer: Answer) -> None:
        self._replicator.wake()
        self._generator.ended(answer)

    def save(self, answer: Answer) -> None:
        """Keep what an answer has become; called before its last event is written.

        :raises Moved: it is another worker's.
        """
        self._replicator.confirm(answer)
        if answer.moved:
            raise Moved
        if answer.conversation_id is not None:
            self._ledger_writer.settle(answer.id)
            fields = stored_fields(answer, answer.log.last + 1)
            self._retry_queue.do(lambda: self._write_down(answer, fields))
        else:
            closed = Closed(answer.id, answer.status, answer.outcome, answer.model)
            self._ledger_writer.call_ends(closed)
        self._pubsub.publish("answer", about(answer, "finished"), to=answer.owner)

    def _write_down(self, answer: Answer, fields: dict[str, Any]) -> None:
        if title := self._store.update(answer.id, **fields):
            renamed = {"action": "renamed", "id": answer.conversation_id, "title": title}
            self._pubsub.publish("conversation", renamed, to=answer.owner)

    def is_wanted(self, answer: Answer) -> bool:
        """Whether an answer that the event log has forgotten is to be written there anew."""
        if answer.conversation_id is None:
            return True
        try:
            self._store.answer(answer.owner, answer.id)
        except NotFound:
            return False  # Its conversation was deleted.
        except StorageUnavailable:
            return True
        return True


def stored_fields(answer: Answer, last_event: int) -> dict[str, Any]:
    """What a conversation keeps of an answer that has ended."""
    return {
        "model": answer.model,
        "content": Content(answer.log.text()),
        "reasoning": answer.log.text(EventType.REASONING),
        "status": answer.status,
        "outcome": answer.outcome,
        "last_event": last_event,
    }
