"""What this worker does with answers: begin one, find one wherever it is written, end, take over.

Between the routes, which know HTTP, and the parts, which know nothing of each other.
"""

import contextlib
import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ..answers.answer import Answer, Moved
from ..answers.events import EventType
from ..answers.outcome import ID_LENGTH, RUNNING, Outcome, Status
from ..answers.registry import INTERRUPTED, AnswerRegistry
from ..conversations.ledger import Closed
from ..conversations.ledger_writer import LedgerWriter
from ..conversations.store import Content, Store
from ..errors import Interrupted, NotFound, StorageUnavailable
from ..eventlog import EventLog
from ..generation.generator import Generator
from ..generation.hooks import Hooks
from ..generation.tools.registry import Tools
from ..replication.leases import Leases, WorkerId
from ..replication.pubsub import PushChannel
from ..replication.replicas import Replicas
from ..replication.replicator import MAX_PAUSE_SECONDS, Replicator
from ..runtime.background import BackgroundTask
from ..runtime.retry_queue import RetryQueue
from ..settings import Settings
from ..upstream.client import Upstream
from .limits import Limits
from .starter import ChatRequest, Starter, about
from .takeover import Takeover

logger = logging.getLogger(__name__)

LOOK_AGAIN: Final = (0.1, 0.2, 0.4)
"""Seconds between looks for an answer that is not known: it may just have begun elsewhere."""
MIN_TIDY_SECONDS: Final = 0.25
MAX_TIDY_SECONDS: Final = 60.0
"""Seconds between looks at what is too old."""


class Service:
    """The answers of one chat, seen from one worker."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        upstream: Upstream,
        log: EventLog,
        hooks: Hooks,
        tools: Tools,
        chat: str,
    ) -> None:
        self._settings = settings
        self._store = store
        self._owners = f"{chat}/"
        self.event_log = log
        self.worker = WorkerId()
        """Tells this worker's id."""
        self.retry_queue = RetryQueue()
        self.ledger_writer = LedgerWriter(store.ledger)
        self.answers = AnswerRegistry(settings, self._save, self._retired)
        self._generator = Generator(
            settings, upstream, self.answers, hooks, tools, self.ledger_writer.call_goes_on
        )
        self.replicas = Replicas(log, settings)
        self.replicator = Replicator(
            log,
            self.worker,
            settings.flush_interval,
            stopped=self.answers.stop,
            lost=self.answers.release,
            wanted=self._wanted,
            posted=lambda: self.pubsub.wake(),
        )
        self.pubsub = PushChannel(settings, log, self.replicator.post, chat)
        takeover = Takeover(
            settings, store, upstream, self.answers, self.replicas, self.replicator, self._generator
        )
        self.leases = Leases(log, self.worker, settings.lease, takeover.adopt, self._owners)
        self.limits = Limits(settings, self._running_of, store.ledger.usage_since, chat)
        self._starter = self._make_starter(upstream)
        self._housekeeping = BackgroundTask("housekeeping", self._tidy)

    def _make_starter(self, upstream: Upstream) -> Starter:
        return Starter(
            settings=self._settings,
            store=self._store,
            upstream=upstream,
            log=self.event_log,
            worker_id=self.worker,
            answers=self.answers,
            replicas=self.replicas,
            replicator=self.replicator,
            retry_queue=self.retry_queue,
            ledger_writer=self.ledger_writer,
            pubsub=self.pubsub,
            limits=self.limits,
            generator=self._generator,
        )

    def begin(self) -> None:
        """Be one of the workers from now on. Costs nothing where it is already."""
        self.leases.begin()
        self._housekeeping.begin()

    def find(self, owner: str, answer_id: str) -> Answer | None:
        """An answer of this owner whose log is kept, written here or elsewhere.

        :raises StorageUnavailable:
        """
        if len(answer_id) != ID_LENGTH:  # It names no answer, so there is nothing to wait for.
            return None
        self.begin()
        answer = self._known(owner, answer_id)
        for pause in LOOK_AGAIN:
            if answer or self._is_over(owner, answer_id):
                break
            # Somebody else's takes as long as none, lest the time tells that there is one.
            time.sleep(pause)
            answer = self._known(owner, answer_id)
        return answer

    def catch_up(self, answer: Answer, cursor: int) -> None:
        """Wait until another worker's answer is here as far as its reader has got elsewhere.

        Not longer than the event log may be behind: a cursor can be one that never was.
        """
        settings = self._settings
        behind = max(settings.flush_interval, MAX_PAUSE_SECONDS) + settings.poll_interval
        deadline = time.monotonic() + 2 * behind
        while answer.running and answer.log.last < cursor and self.is_elsewhere(answer):
            if answer.moved or time.monotonic() > deadline:
                return
            time.sleep(settings.poll_interval / 4)

    def _is_over(self, owner: str, answer_id: str) -> bool:
        """Whether an answer's message is kept, and all of it: no event log has to tell more."""
        try:
            return self._store.answer(owner, answer_id).status not in RUNNING
        except NotFound:
            return False

    def _known(self, owner: str, answer_id: str) -> Answer | None:
        answer = self.answers.find(answer_id) or self.replicas.find(answer_id)
        return answer if answer and answer.owner == owner else None

    def is_elsewhere(self, answer: Answer) -> bool:
        """Whether another worker writes it."""
        return self.answers.find(answer.id) is not answer

    def stop(self, answer: Answer) -> None:
        """End an answer, whoever writes it; one that is over stays as it is."""
        if not self.is_elsewhere(answer):
            self.answers.stop(answer)
        elif answer.running:
            self.event_log.request_stop(answer.id)

    def forget(self, answer_ids: Iterable[str]) -> None:
        """End these answers, and have nobody read them any more."""
        gone = list(answer_ids)
        for answer_id in gone:
            if answer := self.answers.find(answer_id):
                self.answers.stop(answer)
                self.answers.discard(answer, NotFound("This conversation was deleted."))
                # By its next flush, too: one that is under way may put the answer back.
                self.replicator.forget(answer)
            else:
                self.replicas.drop(answer_id)
        if gone:  # Who writes one elsewhere is told by its next flush.
            self.retry_queue.do(lambda: self.event_log.discard(gone))

    def start(
        self,
        owner: str,
        asked: ChatRequest,
        key: str | None = None,
        *,
        visible_everywhere: bool = False,
        rate_limit_key: str | None = None,
    ) -> Answer:
        """As `Starter.start`."""
        self.begin()
        return self._starter.start(
            owner, asked, key, visible_everywhere=visible_everywhere, rate_limit_key=rate_limit_key
        )

    def drain(self) -> None:
        """Tell every reader to come back elsewhere."""
        self.pubsub.drain()
        self.answers.drain()
        self.replicas.drain()

    def finish(self, timeout: float) -> None:
        """End what is still being written here, or leave it to the others; write everything down.

        :param timeout: seconds for all of it.
        """
        deadline = time.monotonic() + timeout

        def left() -> float:
            return max(deadline - time.monotonic(), 0.1)

        given_away: tuple[Answer, ...] = ()
        if self._settings.takeover == "continue":
            given_away = self.answers.written
            for answer in given_away:
                self.answers.release(answer)
        else:
            self.answers.interrupt()
            self.answers.join(left() / 2)
        self.retry_queue.join(left() / 2)
        self.ledger_writer.close(left() / 2)
        self.replicator.close(left() / 2)
        with contextlib.suppress(StorageUnavailable):  # The others find out by our silence.
            for answer in given_away:
                self.event_log.release(answer.id, answer.epoch)
            self.leases.leave(left())

    def _running_of(self, owner: str) -> int:
        """How many answers of an owner are being written, without the one in hand."""
        begun = (answer for answer in self.answers.written if answer.log.last)
        here = sum(answer.owner == owner for answer in begun)
        try:
            return max(here, self._store.running_of(owner))
        except StorageUnavailable:
            return here

    def _retired(self, answer: Answer) -> None:
        self.replicator.wake()
        self._generator.ended(answer)

    def _save(self, answer: Answer) -> None:
        """Keep what an answer has become; called before its last event is written.

        :raises Moved: it is another worker's.
        """
        self.replicator.confirm(answer)
        if answer.moved:
            raise Moved
        if answer.conversation_id is not None:
            self.ledger_writer.settle(answer.id)
            fields = stored_fields(answer, answer.log.last + 1)
            self.retry_queue.do(lambda: self._write_down(answer, fields))
        else:
            closed = Closed(answer.id, answer.status, answer.outcome, answer.model)
            self.ledger_writer.call_ends(closed)
        self.pubsub.publish("answer", about(answer, "finished"), to=answer.owner)

    def _write_down(self, answer: Answer, fields: dict[str, Any]) -> None:
        if title := self._store.update(answer.id, **fields):
            renamed = {"action": "renamed", "id": answer.conversation_id, "title": title}
            self.pubsub.publish("conversation", renamed, to=answer.owner)

    def _wanted(self, answer: Answer) -> bool:
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

    def _tidy(self) -> float:
        settings = self._settings
        self.event_log.tidy(
            settings.answer_age, settings.eventlog_max_bytes, settings.push_age, settings.push_kept
        )
        self._end_forgotten()
        return min(max(settings.answer_age / 4, MIN_TIDY_SECONDS), MAX_TIDY_SECONDS)

    def _end_forgotten(self) -> None:
        """End answers that a conversation waits for, and of which no event log knows.

        Their worker died before it could tell anybody, or an event log in memory died with it.
        """
        before = datetime.now(UTC) - timedelta(seconds=2 * MAX_TIDY_SECONDS)
        for message in self._store.unfinished(before, self._owners):
            if self.answers.find(message.id) or self.retry_queue:
                continue
            record = self.event_log.find(message.id)
            if record is None:
                outcome = Outcome(error=Interrupted(INTERRUPTED))
                self._store.update(message.id, status=Status.FAILED, outcome=outcome)
            elif record.status not in RUNNING and (answer := self.replicas.load(record)):
                self._store.update(message.id, **stored_fields(answer, answer.log.last))


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
