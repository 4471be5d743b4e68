"""A worker's replicator and its answers, without a server: driven by hand, flush by flush."""

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from chatapp.answers.answer import Answer
from chatapp.answers.events import Event, EventType
from chatapp.answers.live_log import LiveLog
from chatapp.answers.outcome import Outcome, Status
from chatapp.errors import StorageUnavailable
from chatapp.eventlog import EventLog
from chatapp.replication.replicas import absorb
from chatapp.replication.replicator import Replicator

TEXT, REASONING = EventType.TEXT, EventType.REASONING
FAULTS = st.lists(st.sampled_from(["", "", "before", "after"]), max_size=30)
"""What becomes of one call of the event log after the other; see `FlakyLog`."""


def nothing(*_: object) -> None:
    """Called by a `BackgroundTask` that is never begun: the test calls itself."""


class FlakyLog:
    """An event log that fails where it is told to: before a call takes effect, or after it.

    :param faults: for each call one of "", "before" and "after"; then all calls work.
    """

    def __init__(self, log: EventLog, faults: list[str] | None = None) -> None:
        self.log = log
        self.faults = list(faults or ())
        self.away = False
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.log, name)

        def call(*args: Any, **options: Any) -> Any:
            self.calls.append(name)
            fault = self.faults.pop(0) if self.faults else ""
            if self.away or fault == "before":
                raise StorageUnavailable("The event log is away.")
            result = method(*args, **options)
            if fault == "after":
                raise StorageUnavailable("The event log went away.")
            return result

        return call


class Desk:
    """A replicator, and what it has told."""

    def __init__(self, log: Any, me: str = "here", on_stop: Callable[[Answer], None] = nothing):
        self.stopped: list[Answer] = []
        self.lost: list[Answer] = []
        self.deleted: list[Answer] = []
        self.posted = 0
        self.wanted = True
        self.on_stop = on_stop
        self.replicator = Replicator(
            log,
            lambda: me,
            0.2,
            stopped=self._stopped,
            lost=self.lost.append,
            deleted=self.deleted.append,
            wanted=lambda _: self.wanted,
        )
        self.replicator.on_published.append(self._posted)
        # Flushed by the test alone, so that each step is known.
        self.replicator._background.wake = nothing  # type: ignore[method-assign]

    def _stopped(self, answer: Answer) -> None:
        self.stopped.append(answer)
        self.on_stop(answer)

    def _posted(self) -> None:
        self.posted += 1

    def flush(self) -> None:
        """Flush once; it may fail."""
        with contextlib.suppress(StorageUnavailable):
            self.replicator.flush()

    def finish(self) -> None:
        """Flush until the event log knows all."""
        for _ in range(300):
            self.flush()
            if not self.replicator.behind and not self.replicator._posts:
                return
        raise AssertionError("the replicator never gets done")


numbers = itertools.count()


def begun(max_bytes: int = 1 << 20, key: str | None = None) -> Answer:
    """An answer that streams."""
    answer = Answer("me", LiveLog(max_bytes), 1 << 30, f"answer{next(numbers)}")
    answer.key, answer.model, answer.conversation_id = key, "model", "talk"
    answer.log.append(EventType.START, answer.start_event().data)
    answer.move(Status.STREAMING)
    return answer


def end(
    answer: Answer,
    status: Status = Status.DONE,
    outcome: Outcome = Outcome("stop"),  # noqa: B008 - frozen
) -> None:
    """Bring an answer to its end."""
    answer.move(status)
    if status is Status.STOPPED:
        outcome = replace(outcome, finish_reason="stopped")
    answer.write_end(outcome, nothing)


def write(answer: Answer, *texts: str, kind: EventType = TEXT) -> None:
    """Append pieces."""
    for text in texts:
        answer.write([(kind, text)])


def copy_of(log: EventLog, answer: Answer) -> Answer:
    """What a reader in another worker knows of an answer, checked for gaps and doubles."""
    copy = Answer("me", LiveLog(1 << 30), 1 << 30, answer.id)
    while True:
        segments, gone = log.read({answer.id: copy.log.last})
        assert not gone
        if not segments.get(answer.id):
            return copy
        at = copy.log.last
        for segment in segments[answer.id]:
            assert segment.first <= at + 1, "no gap"
            assert segment.last > at, "nothing that was read before"
            at = segment.last
        absorb(copy, segments[answer.id])
        assert copy.log.last == at


def events(answer: Answer) -> list[Event]:
    """All of an answer's events."""
    return answer.log.events(0)
