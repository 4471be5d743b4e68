"""The answers of this worker: starts, finds and ends them, and drops old ones."""

import functools
import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from ..errors import (
    ChatAppError,
    InternalError,
    Interrupted,
    NotFound,
    TooManyAnswers,
)
from ..settings import Settings
from .answer import Answer, Cancellable, IllegalTransition, Stream
from .events import EventType
from .live_log import LiveLog
from .outcome import Outcome, Status
from .slot import Slot

logger = logging.getLogger(__name__)

INTERRUPTED: Final = "The server shut down during this answer. Ask again for a new one."


class AnswerRegistry:
    """The answers of this worker: those that run, and the ended ones whose log is kept.

    :param save: called with an answer that has ended, before its last event is written.
    :param retired: called with an answer whose last event is written.
    """

    def __init__(
        self,
        settings: Settings,
        save: Callable[[Answer], None],
        retired: Callable[[Answer], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._save = save
        self._retired = retired
        self._lock = threading.Lock()
        self._running: dict[str, Answer] = {}
        self._ended: OrderedDict[str, Answer] = OrderedDict()
        self._ended_bytes = 0
        self.ended: Counter[Status] = Counter()
        """How many have ended since the process started, by their last status."""
        self._nobody_runs = threading.Event()
        self._nobody_runs.set()
        self._keeper: threading.Thread | None = None
        self._draining = False

    def create(self, owner: str, history_bytes: int = 0) -> Answer:
        """A new pending answer.

        :param history_bytes: of a history that is held as long as the answer runs.
        :raises TooManyAnswers: `max_running` answers are running, or their histories are too large.
        """
        with self._lock:
            held = history_bytes and sum(each.history_bytes for each in self._running.values())
            too_large = held + history_bytes > self._settings.histories_max_bytes
            if too_large or len(self._running) >= self._settings.max_running:
                raise TooManyAnswers(
                    "This server is writing as many answers as it can. Try again in 5 s.",
                    retry_after=5,
                )
            log = LiveLog(self._settings.log_max_bytes)
            answer = Answer(owner, log, self._settings.answer_max_chars)
            answer.history_bytes = history_bytes
            self._running[answer.id] = answer
            self._nobody_runs.clear()
        return answer

    def admit(self, answer: Answer, slot: Slot) -> None:
        """Count an answer under `slot.key`, until it ends.

        :raises TooManyRunning: as many answers with this key as may be are running here already.
        """
        with self._lock:
            if sum(each.running_key == slot.key for each in self._running.values()) >= slot.most:
                raise slot.refusal()
            answer.running_key = slot.key

    def adopt(self, answer: Answer) -> None:
        """Add an answer that another worker started; it is written here from now on."""
        answer.resume()
        answer.running_key = answer.owner
        with self._lock:
            self._running[answer.id] = answer
            self._nobody_runs.clear()

    def discard(self, answer: Answer, error: ChatAppError) -> None:
        """Remove an answer that never began, or that nobody may read any more.

        Its readers get the error.
        """
        self._remove(answer)
        answer.outcome = replace(answer.outcome, error=error)
        answer.ended_at = answer.ended_at or time.monotonic()
        answer.accepted_or_refused.set()
        answer.wake_readers()

    def forget(self, answer: Answer) -> None:
        """End an answer whose conversation was deleted. Nobody can read it any more."""
        self.stop(answer)
        self.discard(answer, NotFound("This conversation was deleted."))

    def release(self, answer: Answer) -> None:
        """Stop writing an answer that another worker owns; its readers find it there."""
        answer.moved = True
        self._remove(answer)
        answer.request_end(Status.FAILED, None)
        answer.accepted_or_refused.set()
        answer.wake_readers()

    def fail(self, answer: Answer, error: ChatAppError) -> None:
        """End an answer that has no writer."""
        self.begin(answer)
        self._request_end(answer, Status.FAILED, error)

    def _remove(self, answer: Answer) -> None:
        with self._lock:
            self._running.pop(answer.id, None)
            if self._ended.pop(answer.id, None):
                self._ended_bytes -= answer.log.size
            self._note_idle()

    def run(
        self, answer: Answer, open_stream: Callable[[], Stream], cancellation: Cancellable
    ) -> None:
        """Write the answer in a thread of its own.

        :param open_stream: sends the request; returns when the upstream has accepted it.
        :param cancellation: makes `open_stream` and the stream end immediately.
        """
        answer.cancellation = cancellation
        self.begin(answer)
        if answer.decided_end:
            self._request_end(answer, *answer.decided_end)
            return
        self._keep_house()
        name = f"answer-{answer.id}"
        thread = threading.Thread(
            target=self._write, args=(answer, open_stream), name=name, daemon=True
        )
        thread.start()

    @staticmethod
    def begin(answer: Answer) -> None:
        """Write the first event, unless it has been written."""
        if not answer.log.last:
            answer.log.append(EventType.START, answer.start_event().data)

    def find(self, answer_id: str) -> Answer | None:
        """An answer by id, whoever owns it."""
        with self._lock:  # While it moves from one to the other, it is in neither.
            return self._running.get(answer_id) or self._ended.get(answer_id)

    @property
    def kept(self) -> tuple[Answer, ...]:
        """The answers whose logs are kept here, running ones included."""
        with self._lock:
            return (*self._running.values(), *self._ended.values())

    def stop(self, answer: Answer) -> None:
        """End an answer in any phase. No effect if it has ended."""
        self._request_end(answer, Status.STOPPED, None)

    def interrupt(self) -> None:
        """End all answers as `interrupted`."""
        for answer in self.written:
            self._request_end(answer, Status.FAILED, Interrupted(INTERRUPTED))

    def drain(self) -> None:
        """Tell all readers to reconnect elsewhere."""
        self._draining = True
        for answer in (*self._running.values(), *self._ended.values()):
            answer.wake_readers()

    def is_draining(self) -> bool:
        """Whether this worker is shutting down and readers should reconnect elsewhere."""
        return self._draining

    def join(self, timeout: float) -> bool:
        """Wait until none runs, at most `timeout` seconds. Returns whether none does."""
        return self._nobody_runs.wait(timeout)

    @property
    def written(self) -> tuple[Answer, ...]:
        """The answers being written."""
        return tuple(self._running.values())

    @property
    def running(self) -> int:
        """How many answers are being written."""
        return len(self._running)

    @property
    def readers(self) -> int:
        """How many connections follow one of these answers."""
        return sum(len(answer.readers) for answer in tuple(self._running.values()))

    def _request_end(self, answer: Answer, status: Status, error: ChatAppError | None) -> None:
        """Make an answer end like this, in any phase."""
        answer.request_end(status, error)
        if not answer.log.last:
            return  # `run` will follow. It writes the first event, then checks for a decided end.
        # A writer that is still connecting may hang, so the answer is ended here. One that is
        # streaming sees its socket close, and ends the answer itself.
        if self._conclude(answer, status, Outcome(error=error), only_from=Status.PENDING):
            self._retire(answer)

    def _write(self, answer: Answer, open_stream: Callable[[], Stream]) -> None:
        stream: Stream | None = None
        try:
            stream = open_stream()
            answer.move(Status.STREAMING)
        except Exception as error:
            self._stream_ended(answer, stream, error)
            return
        answer.accepted_or_refused.set()
        stream.copy(answer.write, functools.partial(self._stream_ended, answer, stream))

    def _stream_ended(self, answer: Answer, stream: Stream | None, fault: Exception | None) -> None:
        """The upstream's stream has ended, or never began."""
        concluded = False
        try:
            if not answer.moved:
                concluded = self._conclude(answer, *self._end_of(answer, stream, fault))
        finally:
            try:
                if stream:
                    stream.close()
            finally:
                if concluded:  # else whoever concludes it retires it
                    self._retire(answer)

    def _end_of(
        self, answer: Answer, stream: Stream | None, fault: Exception | None
    ) -> tuple[Status, Outcome]:
        """How an answer ends when its stream has; a decided end takes precedence over a fault."""
        error = None if fault is None else _reported(answer, fault)
        status = Status.DONE if error is None else Status.FAILED
        if answer.decided_end and error is not None:
            status, error = answer.decided_end
        if stream is None:
            return status, Outcome(error=error)
        return status, Outcome(stream.finish_reason, *stream.usage(answer.log.text()), error)

    def _conclude(
        self, answer: Answer, status: Status, outcome: Outcome, only_from: Status | None = None
    ) -> bool:
        """Save an answer and write its last event; False: another caller does."""
        try:
            answer.move(status, only_from)
        except IllegalTransition:
            return False
        if outcome.error:
            # The answer lives long; the traceback's frames would keep the whole history alive.
            outcome.error.__traceback__ = outcome.error.__context__ = None
        if status is Status.STOPPED:
            outcome = replace(outcome, finish_reason="stopped")
        if self._settings.think_tags != "off":
            answer.tell_reasoning_apart()
        answer.write_end(outcome, self._save)
        if answer.running:
            return False  # Another worker ends it.
        with self._lock:
            self.ended[answer.status] += 1
        return True

    def _retire(self, answer: Answer) -> None:
        """Move an answer from the running to the ended ones, and evict old ones."""
        with self._lock:
            if self._running.pop(answer.id, None):
                self._ended[answer.id] = answer
                self._ended_bytes += answer.log.size
            self._note_idle()
            self._evict()
        self._retired(answer)

    def _note_idle(self) -> None:
        if not self._running:
            self._nobody_runs.set()

    def _evict(self) -> None:
        settings = self._settings
        oldest_allowed = time.monotonic() - settings.answer_age
        while self._ended:
            oldest = next(iter(self._ended.values()))
            too_many = len(self._ended) > settings.answers_kept
            too_large = self._ended_bytes > settings.logs_max_bytes
            if not (too_many or too_large or (oldest.ended_at or 0) < oldest_allowed):
                return
            del self._ended[oldest.id]
            self._ended_bytes -= oldest.log.size

    def _keep_house(self) -> None:
        with self._lock:
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._tidy, name="answers", daemon=True)
                self._keeper.start()

    def _tidy(self) -> None:
        """Drop old answers and stop abandoned ones, for as long as the worker lives."""
        wake = threading.Event()
        while not wake.wait(1.0):
            with self._lock:
                self._evict()
            limit = self._settings.abandon_after
            oldest_allowed = time.monotonic() - limit
            for answer in tuple(self._running.values()) if limit else ():
                if not answer.readers and answer.unread_since < oldest_allowed:
                    self.stop(answer)


def _reported(answer: Answer, fault: Exception) -> ChatAppError:
    """The error for readers after a fault of the stream; the details are logged."""
    if isinstance(fault, ChatAppError):
        if fault.seen and not answer.decided_end:
            logger.warning("answer %s: %s: %s", answer.id, fault.code, fault.seen)
        return fault
    if not isinstance(fault, IllegalTransition):  # else it ended before the upstream accepted
        logger.error("answer %s failed", answer.id, exc_info=fault)
    return InternalError("Something went wrong on our side. Try again.")
