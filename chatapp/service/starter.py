"""Starts answers: exactly once per idempotency key, leaving nothing behind if refused."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from ..answers.answer import Answer
from ..answers.outcome import Status
from ..answers.registry import AnswerRegistry
from ..answers.slot import Slot
from ..answers.text.tokens import estimated_prompt
from ..conversations.ledger import Opened
from ..conversations.ledger_writer import RECORDED_WITHIN, LedgerWriter
from ..conversations.store import Content, Conversation, Store
from ..errors import (
    ChatAppError,
    Conflict,
    InternalError,
    InvalidRequest,
    NotFound,
    ShuttingDown,
    StorageUnavailable,
    TooManyRunning,
    restored,
)
from ..eventlog import EventLog, Record
from ..generation.generator import Generator, Prompt, prompt_for
from ..identity.payers import Payer
from ..replication.pubsub import PushChannel
from ..replication.replicas import Replicas
from ..replication.replicator import Replicator
from ..replication.segments import record_of
from ..runtime.retry_queue import RetryQueue
from ..settings import Settings
from ..upstream.client import Upstream
from .limits import Limits

T = TypeVar("T")
JOIN_POLL: Final = 0.05
"""Seconds between look-ups of an answer that another worker is just starting."""
NO_REASON: Final = msgspec.json.encode(InternalError("It never started. Ask again.").details())


@dataclass(kw_only=True)
class ChatRequest:
    """A validated question. Exactly one of `message`, `messages` and `regenerate` is set."""

    message: Content | None = None
    messages: list[dict[str, Any]] | None = None
    size: int = 0
    """Bytes of `messages`, which are held as long as the answer runs."""
    conversation_id: str | None = None
    regenerate: str | None = None
    edit: str | None = None
    model: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """The sampling options that were given."""
    resumes: bool = False
    """Whether its sender has read from the answer, so that there must be one."""
    settings: dict[str, Any] | None = None
    """Of the conversation that a first `message` creates."""


@dataclass(frozen=True, kw_only=True)
class Starter:
    """Starts the answers of this worker."""

    settings: Settings
    store: Store
    upstream: Upstream
    event_log: EventLog
    worker_id: Callable[[], str]
    answers: AnswerRegistry
    replicas: Replicas
    replicator: Replicator
    retry_queue: RetryQueue
    ledger_writer: LedgerWriter
    pubsub: PushChannel
    limits: Limits
    generator: Generator

    def start(
        self,
        owner: str,
        asked: ChatRequest,
        key: str | None = None,
        *,
        visible_everywhere: bool = False,
        payer: Payer | None = None,
    ) -> Answer:
        """The running answer to a request: a new one, or the one that its key stands for.

        :param visible_everywhere: whether all workers must know it when this returns.
        :param payer: whom it is charged to; None: the owner alone.
        :raises ChatAppError: the request is refused, by this server or soon by the upstream.
        """
        if self.answers.is_draining():
            raise ShuttingDown("The server is restarting. Try again in 1 s.", retry_after=1)
        model = self._offered(asked.model)
        answer = self.answers.create(owner, asked.size)
        answer.key, answer.provisional, answer.request = key, True, self._request(asked)
        if known := self._already_there(answer):
            return self._join(known)
        try:
            if asked.resumes:
                raise NotFound("The answer that this key stands for is no longer kept.")
            slot = self._admit(answer, payer or Payer(owner))
            self._begin_answer(answer, asked, model, slot)
            if visible_everywhere:
                self.replicator.claim(answer)
            self._settled(answer)
        except Exception as error:
            internal = InternalError("Something went wrong. Try again.")
            self._take_back(answer, error if isinstance(error, ChatAppError) else internal)
            raise
        answer.provisional = False
        if not answer.running:
            self.replicator.wake()
        return answer

    def _admit(self, answer: Answer, payer: Payer) -> Slot:
        """Reserve a place among the concurrent answers; it is given back with the answer."""
        slot = Slot(payer.name, self.settings.max_running_per_owner)
        self.answers.admit(answer, slot)
        self.limits.check(payer)
        return slot

    def _request(self, asked: ChatRequest) -> bytes | None:
        """What another worker would need to continue the answer."""
        if self.settings.takeover != "continue":
            return None
        return msgspec.json.encode({"messages": asked.messages, "options": asked.options})

    def _already_there(self, answer: Answer) -> Record | None:
        """The earlier answer that this one's key stands for; None: there is none, or no key."""
        if answer.key is None:
            return None
        try:
            known = self.event_log.claim(record_of(answer, self.worker_id()))
        except ChatAppError as error:
            refusal = error
            self.answers.discard(answer, refusal)
            # It may have been added all the same.
            self.retry_queue.later(lambda: self._refuse(answer, refusal))
            raise
        if known.id == answer.id:
            return None
        self.answers.discard(answer, Conflict("Another request with this key came first."))
        return known

    def _settled(self, answer: Answer) -> Answer:
        """Wait until the upstream accepts or refuses, as long as a reply may wait.

        :raises ChatAppError: the refusal.
        """
        answer.accepted_or_refused.wait(self.settings.start_wait)
        if answer.outcome.error and not answer.accepted:
            raise answer.outcome.error
        return answer

    def _join(self, record: Record) -> Answer:
        """The answer that a key stands for, once the upstream has accepted or refused it."""
        deadline = time.monotonic() + self.settings.start_wait
        known: Record | None = record
        while known is not None:
            if here := self.answers.find(record.id):
                return self._settled(here)
            if known.status == "refused":
                raise restored(msgspec.json.decode(known.refusal or NO_REASON))
            if known.status != Status.PENDING or time.monotonic() > deadline:
                break
            time.sleep(JOIN_POLL)
            known = self.event_log.find(record.id)
        if known is None or (replica := self.replicas.find(record.id)) is None:
            raise Conflict("The request with this key has just failed. Send it again.")
        if known.key is None and replica.outcome.error:  # It was refused meanwhile.
            raise replica.outcome.error
        return replica

    def _take_back(self, answer: Answer, error: ChatAppError) -> None:
        """Undo the start of an answer that never began.

        The client waits for it, so that the conversation is free; but it does not wait again for a
        storage that has just timed out.
        """
        down = isinstance(error, StorageUnavailable)
        undo = self.retry_queue.later if down else self.retry_queue.do
        self.answers.discard(answer, error)
        if answer.key is None:
            self.replicator.forget(answer)
        else:
            self.replicator.drop(answer)
            undo(lambda: self._refuse(answer, error))
        undo(lambda: self._withdraw(answer))

    def _refuse(self, answer: Answer, error: ChatAppError) -> None:
        """Free the answer's key."""
        refusal = msgspec.json.encode(error.details())
        self.event_log.refuse(answer.id, answer.epoch, refusal)

    def _withdraw(self, answer: Answer) -> None:
        self.ledger_writer.settle(answer.id)
        if gone := self.store.withdraw(answer.id):
            fields = {"action": "deleted", "id": gone, "title": None}
            self.pubsub.publish("conversation", fields, to=answer.owner)

    def _offered(self, wanted: str | None) -> str | None:
        """The model that a request names.

        :raises InvalidRequest: it is not offered.
        """
        if wanted is None:
            return None
        offered = self.upstream.models()
        if wanted not in offered:
            raise InvalidRequest(
                f"This model is not available. Choose one of: {', '.join(offered)}.",
                param="model",
            )
        return wanted

    def _begin_answer(
        self, answer: Answer, asked: ChatRequest, model: str | None, slot: Slot
    ) -> None:
        chosen = model or self.upstream.default_model()
        if asked.messages is None:
            conversation = self._in_slot(lambda: self._record(answer, asked, model, chosen, slot))
            message = conversation.messages[answer.id]
            answer.conversation_id, answer.created_at = conversation.id, message.created_at
            question = prompt_for(
                conversation, answer.id, message.model or chosen, asked.options, self.settings
            )
        else:
            prompt = estimated_prompt(asked.messages)
            call = Opened.now(answer.id, answer.owner, chosen, prompt, slot.key)
            self._in_slot(lambda: self.ledger_writer.call_begins(call, slot))
            question = Prompt(model=chosen, messages=asked.messages, options=asked.options)
        self.replicator.watch(answer, claimed=answer.key is not None)
        self.generator.begin(answer, question)
        self.pubsub.publish("answer", about(answer, "started"), to=answer.owner)

    @staticmethod
    def _in_slot(record: Callable[[], T]) -> T:
        """Record a call whose slot may be taken.

        Tries twice: other workers may not have recorded yet that one of their calls has ended.
        """
        try:
            return record()
        except TooManyRunning:
            time.sleep(2 * RECORDED_WITHIN)
            return record()

    def _record(
        self,
        answer: Answer,
        asked: ChatRequest,
        model: str | None,
        default: str,
        slot: Slot,
    ) -> Conversation:
        how: dict[str, Any] = {"model": model, "default_model": default, "slot": slot}
        if asked.regenerate is not None:
            return self.store.ask_again(answer.owner, asked.regenerate, answer.id, **how)
        conversation = self.store.ask(
            answer.owner,
            asked.conversation_id,
            asked.message or Content(),
            answer.id,
            asked.edit,
            settings=asked.settings,
            **how,
        )
        if asked.conversation_id is None:
            fields = {"action": "created", "id": conversation.id, "title": conversation.title}
            self.pubsub.publish("conversation", fields, to=answer.owner)
        return conversation


def about(answer: Answer, action: str) -> dict[str, Any]:
    """The push event about an answer, for its owner's pages."""
    return {
        "action": action,
        "id": answer.id,
        "conversation_id": answer.conversation_id,
        "status": answer.status,
    }
