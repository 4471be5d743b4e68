"""A worker finds its answers, forgets them in time, takes them over and gives them away."""

import itertools
import threading

import pytest

from chatapp.answers.answer import Answer, Moved
from chatapp.answers.events import EventType
from chatapp.answers.live_log import LiveLog
from chatapp.answers.outcome import Status
from chatapp.answers.registry import INTERRUPTED
from chatapp.errors import ChatAppError, Interrupted, TooManyAnswers, UpstreamBusy, UpstreamCut
from chatapp.runtime.wakers import ThreadWaker
from tests.support.in_memory_worker import FakeStream, Worker, events, kinds
from tests.support.upstream import poll


class TestTheRegistry:
    def test_finds_what_runs_and_what_is_kept_and_nothing_else(self) -> None:
        worker, stream = Worker(), FakeStream("a")
        stream.may_go_on.clear()
        answer = worker.start(stream)
        assert worker.answers.find(answer.id) is answer
        stream.may_go_on.set()
        assert worker.answers.join(30)
        assert worker.answers.find(answer.id) is answer
        assert worker.answers.find("other") is None

    def test_an_answer_can_be_found_at_every_moment_of_its_end(self) -> None:
        worker, missing, over = Worker(), [], threading.Event()
        current: list[Answer] = []

        def look() -> None:
            while not over.is_set():
                for answer in current[-1:]:
                    if worker.answers.find(answer.id) is not answer:
                        missing.append(answer)

        thread = threading.Thread(target=look)
        thread.start()
        for _ in range(100):
            stream = FakeStream("a")
            stream.may_accept.clear()
            current.append(worker.start(stream))
            stream.may_accept.set()
            assert worker.answers.join(30)
        over.set()
        thread.join(30)
        assert missing == []

    def test_more_than_may_run_are_refused_until_one_has_ended(self) -> None:
        worker = Worker(max_running=2)
        streams = [FakeStream("a"), FakeStream("a")]
        for stream in streams:
            stream.may_go_on.clear()
            worker.start(stream)
        with pytest.raises(TooManyAnswers) as caught:
            worker.answers.create("me")
        assert caught.value.retry_after
        assert worker.answers.running == 2
        streams[0].cancel()
        poll(lambda: worker.answers.running == 1)
        streams[1].cancel()
        worker.finish(FakeStream("b"))

    def test_a_discarded_answer_is_forgotten_and_who_waits_is_told(self) -> None:
        worker, waker = Worker(), ThreadWaker()
        answer = worker.answers.create("me")
        answer.readers.add(waker)
        error = UpstreamBusy("Busy.")
        worker.answers.discard(answer, error)
        assert worker.answers.find(answer.id) is None
        assert (answer.outcome.error, answer.accepted_or_refused.is_set(), answer.running) == (
            error,
            True,
            False,
        )
        assert waker.wait(0)
        assert worker.answers.running == 0
        assert worker.answers.join(0)

    def test_discarding_what_has_ended_and_was_kept(self) -> None:
        worker = Worker()
        answer = worker.finish(FakeStream("a"))
        worker.answers.discard(answer, UpstreamBusy("Busy."))
        assert worker.answers.find(answer.id) is None

    def test_so_many_ended_answers_are_kept_and_the_oldest_go_first(self) -> None:
        worker = Worker(answers_kept=2)
        made = [worker.finish(FakeStream("a")) for n in range(4)]
        kept = [worker.answers.find(answer.id) is not None for answer in made]
        assert kept == [False, False, True, True]

    def test_so_many_bytes_of_ended_answers_are_kept(self) -> None:
        worker = Worker(logs_max_bytes=3000)
        made = [worker.finish(FakeStream("x" * 500)) for _ in range(5)]
        kept = [answer for answer in made if worker.answers.find(answer.id)]
        assert kept == made[-len(kept) :]
        assert sum(answer.log.size for answer in kept) <= 3000
        assert 1 < len(kept) < 5

    def test_ended_answers_are_kept_for_so_long(self) -> None:
        worker = Worker(answer_age=0.01)
        answer = worker.finish(FakeStream("a"))
        poll(lambda: worker.answers.find(answer.id) is None)

    def test_a_stream_whose_close_fails_does_not_keep_its_place_for_ever(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        faults: list[object] = []
        monkeypatch.setattr(threading, "excepthook", faults.append)
        stream = FakeStream("a")

        def fail() -> None:
            raise OSError("close")

        stream.close = fail  # type: ignore[method-assign]
        worker = Worker()
        answer = worker.finish(stream)
        assert (worker.answers.running, answer.status) == (0, Status.DONE)
        poll(lambda: faults)

    def test_leaving_wakes_all_readers(self) -> None:
        worker, wakers = Worker(), [ThreadWaker(), ThreadWaker()]
        ended = worker.finish(FakeStream("a"))
        stream = FakeStream("b")
        stream.may_go_on.clear()
        running = worker.start(stream)
        for answer, waker in zip((ended, running), wakers, strict=True):
            answer.readers.add(waker)
        worker.answers.drain()
        assert worker.answers.is_draining()
        assert all(waker.wait(30) for waker in wakers)
        assert worker.answers.readers == 1
        worker.answers.stop(running)

    def test_many_answers_at_once_are_counted_and_leave_nothing_behind(self) -> None:
        worker = Worker(answers_kept=0)
        errors: list[ChatAppError] = []

        def start_some() -> None:
            for number in range(20):
                fault = UpstreamCut("x") if number % 2 else None
                try:
                    worker.start(FakeStream("a", fault=fault))
                except ChatAppError as error:
                    errors.append(error)

        threads = [threading.Thread(target=start_some) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        poll(lambda: worker.answers.running == 0)
        assert errors == []
        assert worker.answers.ended == {Status.DONE: 40, Status.FAILED: 40}


class TestTakingOver:
    """An answer that another worker has begun."""

    @staticmethod
    def begun(text: str = "Half a sent", most: int = 1000) -> Answer:
        answer = Answer("me", LiveLog(1 << 20), most, "theirs")
        answer.log.append(EventType.START, answer.start_event().data)
        answer.log.append_piece(EventType.TEXT, text)
        answer.accepted = True
        return answer

    def test_goes_on_after_its_last_event(self) -> None:
        worker, answer, stream = Worker(), self.begun(), FakeStream("ence.")
        worker.answers.adopt(answer)
        assert worker.answers.find("theirs") is answer
        assert not worker.answers.join(0)
        worker.answers.run(answer, stream.open, stream)
        assert worker.answers.join(30)
        assert kinds(answer) == ["start", "message", "message", "done"]
        assert answer.log.text() == "Half a sentence."
        assert worker.saved == [(Status.DONE, "Half a sentence.", 3)]

    def test_counts_what_was_written_before_as_part_of_its_length(self) -> None:
        worker, answer, stream = Worker(), self.begun("12345", most=8), FakeStream("67890")
        worker.answers.adopt(answer)
        worker.answers.run(answer, stream.open, stream)
        assert worker.answers.join(30)
        assert answer.log.text() == "12345678"
        assert answer.outcome.finish_reason == "length"

    def test_splits_as_if_one_had_written_all(self) -> None:
        """Sentences end where they would have ended, so that a cursor means the same."""
        whole, halves = Worker(), Worker()
        texts = ("It costs 3.", "14. Then", " more. Dr. ", "No. The end.")
        expected = whole.finish(FakeStream(*texts))
        answer = self.begun("".join(texts[:2]))
        halves.answers.adopt(answer)
        halves.answers.run(answer, FakeStream(*texts[2:]).open, FakeStream())
        assert halves.answers.join(30)
        edges = set(itertools.accumulate(len(each.text) for each in events(expected)[1:-1]))
        mine = set(itertools.accumulate(len(each.text) for each in events(answer)[1:-1]))
        assert {edge for edge in edges if edge > len("".join(texts[:2]))} <= mine

    def test_fails_where_nobody_goes_on(self) -> None:
        worker, answer = Worker(), self.begun()
        worker.answers.adopt(answer)
        worker.answers.fail(answer, Interrupted(INTERRUPTED))
        assert kinds(answer) == ["start", "message", "failed"]
        assert events(answer)[-1].fields()["code"] == "interrupted"
        assert (answer.status, answer.running) == (Status.FAILED, False)
        assert worker.saved == [(Status.FAILED, "Half a sent", 2)]
        assert worker.retired == [answer]
        assert worker.answers.join(0)

    def test_fails_with_a_first_event_where_not_even_that_was_written(self) -> None:
        worker, answer = Worker(), Answer("me", LiveLog(1000), 100, "theirs")
        worker.answers.adopt(answer)
        worker.answers.fail(answer, Interrupted(INTERRUPTED))
        assert kinds(answer) == ["start", "failed"]

    def test_can_be_stopped_before_it_goes_on(self) -> None:
        worker, answer = Worker(), self.begun()
        worker.answers.adopt(answer)
        worker.answers.stop(answer)
        assert (answer.status, kinds(answer)[-1]) == (Status.STOPPED, "done")
        assert worker.answers.join(0)


class TestHandingOver:
    """An answer that is another worker's from now on."""

    def test_writes_no_end_and_tells_its_readers(self) -> None:
        worker, stream, waker = Worker(), FakeStream("partial"), ThreadWaker()
        stream.may_go_on.clear()
        answer = worker.start(stream)
        poll(lambda: answer.log.last == 2)
        answer.readers.add(waker)
        waker.wait(0)
        worker.answers.release(answer)
        assert (answer.moved, waker.wait(0)) == (True, True)
        assert worker.answers.find(answer.id) is None
        assert worker.answers.join(0)
        poll(lambda: stream.closed)
        assert stream.cancelled
        assert kinds(answer) == ["start", "message"]
        assert (worker.saved, worker.retired, dict(worker.answers.ended)) == ([], [], {})

    def test_before_the_upstream_has_accepted_lets_nobody_wait(self) -> None:
        worker, stream = Worker(), FakeStream("never")
        stream.may_accept.clear()
        answer = worker.start(stream)
        assert stream.asked.wait(30)
        worker.answers.release(answer)
        assert answer.accepted_or_refused.wait(30)
        assert kinds(answer) == ["start"]
        assert worker.saved == []

    def test_that_is_found_out_while_it_is_saved_writes_nothing(self) -> None:
        """Saving asks whether the answer is still ours."""

        def save(answer: Answer) -> None:
            worker.answers.release(answer)
            raise Moved

        worker = Worker(save)
        stream = FakeStream("all")
        answer = worker.start(stream)
        poll(lambda: stream.closed)
        assert kinds(answer) == ["start", "message"]
        assert (answer.running, answer.moved) == (True, True)
        assert worker.answers.find(answer.id) is None
        assert worker.answers.join(30)
        assert sum(worker.answers.ended.values()) == 0

    def test_forgets_one_that_has_ended_here(self) -> None:
        worker = Worker()
        answer = worker.finish(FakeStream("a"))
        worker.answers.release(answer)
        assert worker.answers.find(answer.id) is None
        assert answer.moved


def test_what_has_ended_is_told_once_its_last_event_is_there() -> None:
    seen: list[str] = []
    worker = Worker()
    worker.answers._retired = lambda answer: seen.append(kinds(answer)[-1])
    worker.finish(FakeStream("a"))
    worker.finish(FakeStream("a", fault=UpstreamCut("x")))
    poll(lambda: len(seen) == 2)
    assert seen == ["done", "failed"]
