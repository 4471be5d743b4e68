"""Answers without a server: an upstream in memory, and a worker that notes what it saves."""

import threading
from collections.abc import Callable, Iterator

from chatapp.answers.answer import Answer, Deltas
from chatapp.answers.events import Event, EventType
from chatapp.answers.outcome import Status
from chatapp.answers.registry import AnswerRegistry
from chatapp.errors import UpstreamCut
from chatapp.settings import Settings

TEXT = EventType.TEXT
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


class FakeStream:
    """An upstream in memory: it can hang before it accepts and before each piece.

    `cancel` ends every wait, as closing the socket does.
    """

    def __init__(self, *pieces: str, fault: Exception | None = None) -> None:
        self.finish_reason: str | None = None
        self.pieces = pieces
        self.fault = fault
        self.may_accept, self.may_go_on = threading.Event(), threading.Event()
        self.may_accept.set()
        self.may_go_on.set()
        self.asked, self.waiting = threading.Event(), threading.Event()
        self.cancelled = False
        self.closed = 0

    def open(self) -> "FakeStream":
        self.asked.set()
        self._wait(self.may_accept)
        return self

    def __iter__(self) -> Iterator[tuple[EventType, str]]:
        for piece in self.pieces:
            yield TEXT, piece
        self._wait(self.may_go_on)
        if self.fault:
            raise self.fault
        self.finish_reason = "stop"

    def copy(
        self,
        write: Callable[[Deltas], bool],
        over: Callable[[Exception | None], None],
    ) -> None:
        try:
            for kind, text in self:
                if not write([(kind, text)]):
                    self.finish_reason = "length"
                    break
        except Exception as error:
            over(error)
        else:
            over(None)

    def _wait(self, event: threading.Event) -> None:
        self.waiting.set()
        assert event.wait(30)
        self.waiting.clear()
        if self.cancelled:
            raise UpstreamCut("The connection was closed.")

    def usage(self, text: str) -> tuple[dict[str, int], str]:
        return USAGE, "provider" if text else "estimated"

    def close(self) -> None:
        self.closed += 1

    def cancel(self) -> None:
        self.cancelled = True
        self.may_accept.set()
        self.may_go_on.set()


class Worker:
    """Answers, and what was saved of them."""

    def __init__(self, save: Callable[[Answer], None] | None = None, **options: object) -> None:
        self.saved: list[tuple[Status, str, int]] = []
        self.retired: list[Answer] = []
        self.answers = AnswerRegistry(Settings(**options), save or self._save, self.retired.append)

    def _save(self, answer: Answer) -> None:
        self.saved.append((answer.status, answer.log.text(), answer.log.last))

    def start(self, stream: FakeStream) -> Answer:
        answer = self.answers.create("me")
        self.answers.run(answer, stream.open, stream)
        return answer

    def finish(self, stream: FakeStream) -> Answer:
        answer = self.start(stream)
        assert self.answers.join(30)
        return answer


def events(answer: Answer) -> list[Event]:
    return answer.log.events(0)


def kinds(answer: Answer) -> list[str]:
    return [str(event.type) for event in events(answer)]
