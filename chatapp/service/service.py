"""What one worker does with answers: start one, find one wherever it is written, end it, drain.

It stands between the routes, which know HTTP, and the components, which don't know each other.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from ..answers.answer import Answer
from ..answers.outcome import ID_LENGTH, RUNNING
from ..answers.registry import AnswerRegistry
from ..conversations.ledger_writer import LedgerWriter
from ..conversations.store import Store
from ..errors import NotFound, StorageUnavailable
from ..eventlog import EventLog
from ..identity.payers import Payer
from ..replication.leases import Leases
from ..replication.pubsub import DISCONNECT, FORGET, PushChannel
from ..replication.replicas import Replicas
from ..replication.replicator import MAX_PAUSE_SECONDS, Replicator
from ..runtime.retry_queue import RetryQueue
from ..settings import Settings
from .expiry import Expiry
from .housekeeping import Housekeeping
from .limits import Limits
from .open_streams import OpenStreams
from .starter import ChatRequest, Starter

logger = logging.getLogger(__name__)

LOOK_AGAIN: Final = (0.1, 0.2, 0.4)
"""Seconds between look-ups of an unknown answer, which may just have started elsewhere."""


@dataclass(kw_only=True, eq=False)
class Service:
    """The answers of one chat, as seen from one worker."""

    settings: Settings
    store: Store
    worker_id: Callable[[], str]
    event_log: EventLog
    answers: AnswerRegistry
    replicas: Replicas
    replicator: Replicator
    pubsub: PushChannel
    leases: Leases
    limits: Limits
    starter: Starter
    retry_queue: RetryQueue
    ledger_writer: LedgerWriter
    housekeeping: Housekeeping
    expiry: Expiry
    streams: OpenStreams

    def __post_init__(self) -> None:
        self.pubsub.has_streams = lambda: bool(self.streams or self.answers.kept)
        self.pubsub.told = self.obey

    def begin(self) -> None:
        """Join the workers. Does nothing if this one has joined."""
        self.leases.begin()
        self.housekeeping.begin()
        self.expiry.begin()

    def find(self, owner: str, answer_id: str) -> Answer | None:
        """An answer of this owner whose log is kept, on whichever worker it is written.

        :raises StorageUnavailable:
        """
        if len(answer_id) != ID_LENGTH:  # It can be no answer's id, so don't wait.
            return None
        self.begin()
        answer = self._known(owner, answer_id)
        for pause in LOOK_AGAIN:
            if answer or self._is_over(owner, answer_id):
                break
            # Another owner's answer takes as long as none, so timing reveals nothing.
            time.sleep(pause)
            answer = self._known(owner, answer_id)
        return answer

    def catch_up(self, answer: Answer, cursor: int) -> None:
        """Wait until a replica has reached the cursor that its reader got from another worker.

        Waits no longer than the event log may lag: the cursor may be invented.
        """
        settings = self.settings
        behind = max(settings.flush_interval, MAX_PAUSE_SECONDS) + settings.poll_interval
        deadline = time.monotonic() + 2 * behind
        while answer.running and answer.log.last < cursor and self.is_elsewhere(answer):
            if answer.moved or time.monotonic() > deadline:
                return
            time.sleep(settings.poll_interval / 4)

    def _is_over(self, owner: str, answer_id: str) -> bool:
        """Whether the answer's message is stored with its end, so that no event log is needed."""
        try:
            return self.store.answer(owner, answer_id).status not in RUNNING
        except NotFound:
            return False

    def _known(self, owner: str, answer_id: str) -> Answer | None:
        answer = self.answers.find(answer_id) or self.replicas.find(answer_id)
        return answer if answer and answer.owner == owner else None

    def is_elsewhere(self, answer: Answer) -> bool:
        """Whether another worker writes the answer."""
        return self.answers.find(answer.id) is not answer

    def stop(self, answer: Answer) -> None:
        """End an answer, whichever worker writes it. No effect if it has ended."""
        if not self.is_elsewhere(answer):
            self.answers.stop(answer)
        elif answer.running:
            self.event_log.request_stop(answer.id)

    def disconnect(self, owner: str) -> None:
        """End all streams of an owner, in all workers."""
        self._tell_workers(DISCONNECT, owner)
        self.streams.disconnect(owner)

    def forget_owner(self, owner: str) -> None:
        """Delete all that an owner has, end their streams in all workers and keep no events.

        :raises StorageUnavailable:
        """
        self.forget(self.store.delete_all(owner))
        self._forget_here(owner, time.time())
        self._tell_workers(FORGET, owner)
        self.streams.disconnect(owner)

    def _tell_workers(self, order: str, owner: str) -> None:
        """Publish an order now: clients come back at once, perhaps to another worker."""
        self.pubsub.tell_workers(order, owner)
        with contextlib.suppress(StorageUnavailable):  # It is published when that is back.
            self.replicator.flush()

    def obey(self, order: str, owner: str, published_at: float) -> None:
        """Do here what another worker was told to."""
        self.streams.disconnect(owner, before=published_at)
        if order == FORGET:
            self._forget_here(owner, published_at)

    def _forget_here(self, owner: str, before: float) -> None:
        """End and drop the answers that this worker has, and their owner's name in the ledger.

        :param before: Unix seconds; what is newer is a new owner's.
        """
        gone = [
            answer.id
            for answer in self.answers.kept
            if answer.owner == owner and answer.created_at.timestamp() < before
        ]
        self.forget(gone)
        for answer_id in gone:
            self.ledger_writer.settle(answer_id)
        self.retry_queue.do(lambda: self.store.ledger.forget(owner))

    def forget(self, answer_ids: Iterable[str]) -> None:
        """End these answers, and let nobody read them any more."""
        gone = list(answer_ids)
        for answer_id in gone:
            if answer := self.answers.find(answer_id):
                self.answers.forget(answer)
                # Repeated by the next flush, since a flush in progress may put the answer back.
                self.replicator.forget(answer)
            else:
                self.replicas.drop(answer_id)
        if gone:  # Its writer on another worker learns this at its next flush.
            self.retry_queue.do(lambda: self.event_log.discard(gone))

    def start(
        self,
        owner: str,
        asked: ChatRequest,
        key: str | None = None,
        *,
        visible_everywhere: bool = False,
        payer: Payer | None = None,
    ) -> Answer:
        """As `Starter.start`."""
        self.begin()
        self.pubsub.watch()
        return self.starter.start(
            owner, asked, key, visible_everywhere=visible_everywhere, payer=payer
        )

    def drain(self) -> None:
        """Tell all readers to reconnect elsewhere."""
        self.pubsub.drain()
        self.answers.drain()
        self.replicas.drain()

    def finish(self, timeout: float) -> None:
        """End the answers that still run here, or release them to other workers; write everything.

        :param timeout: seconds for all of it.
        """
        deadline = time.monotonic() + timeout

        def left() -> float:
            return max(deadline - time.monotonic(), 0.1)

        given_away: tuple[Answer, ...] = ()
        if self.settings.takeover == "continue":
            given_away = self.answers.written
            for answer in given_away:
                self.answers.release(answer)
        else:
            self.answers.interrupt()
            self.answers.join(left() / 2)
        self.retry_queue.join(left() / 2)
        self.ledger_writer.close(left() / 2)
        self.replicator.close(left() / 2)
        with contextlib.suppress(StorageUnavailable):  # Other workers notice our silence.
            for answer in given_away:
                self.event_log.release(answer.id, answer.epoch)
            self.leases.leave(left())
