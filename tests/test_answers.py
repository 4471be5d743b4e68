"""An answer is written once and ends once, in whichever phase somebody stops it."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from itertools import product

import pytest

from chatapp.answer import TRANSITIONS, Answer, IllegalTransition, Status
from chatapp.answers import Answers
from chatapp.config import Settings
from chatapp.errors import ChatAppError, InternalError, TooManyAnswers, UpstreamBusy, UpstreamCut
from chatapp.events import Event, EventType
from chatapp.following import Bell
from chatapp.live_log import LiveLog
from tests.upstream import poll

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
        write: Callable[[EventType, str], bool],
        over: Callable[[Exception | None], None],
    ) -> None:
        try:
            for kind, text in self:
                if not write(kind, text):
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
        self.answers = Answers(Settings(**options), save or self._save)

    def _save(self, answer: Answer) -> None:
        self.saved.append((answer.status, answer.log.text(), answer.log.last))

    def start(self, stream: FakeStream, key: str | None = None, owner: str = "me") -> Answer:
        answer, is_new = self.answers.create(owner, key)
        assert is_new
        self.answers.run(answer, stream.open, stream)
        return answer

    def finish(self, stream: FakeStream, key: str | None = None) -> Answer:
        answer = self.start(stream, key)
        assert self.answers.join(30)
        return answer


def events(answer: Answer) -> list[Event]:
    return answer.log.events(0)


def kinds(answer: Answer) -> list[str]:
    return [str(event.type) for event in events(answer)]


class TestTheTable:
    @pytest.mark.parametrize(("status", "to"), list(product(Status, Status)))
    def test_only_its_moves_are_made_and_another_one_changes_nothing(
        self, status: Status, to: Status
    ) -> None:
        answer = Answer("me", LiveLog(1000), 100)
        answer.status = status
        if to in TRANSITIONS[status]:
            answer.move(to)
            assert answer.status is to
        else:
            with pytest.raises(IllegalTransition):
                answer.move(to)
            assert answer.status is status

    def test_every_status_has_its_row_and_the_last_ones_lead_nowhere(self) -> None:
        assert set(TRANSITIONS) == set(Status)
        last = {Status.DONE, Status.FAILED, Status.STOPPED}
        assert {status for status, moves in TRANSITIONS.items() if not moves} == last

    def test_a_move_can_be_bound_to_where_it_starts(self) -> None:
        answer = Answer("me", LiveLog(1000), 100)
        answer.move(Status.STREAMING)
        with pytest.raises(IllegalTransition):
            answer.move(Status.STOPPED, only_from=Status.PENDING)

    def test_of_many_threads_only_one_ends_an_answer(self) -> None:
        answer = Answer("me", LiveLog(1000), 100)
        start, winners = threading.Barrier(8), []

        def end(status: Status) -> None:
            start.wait()
            try:
                answer.move(status)
                winners.append(status)
            except IllegalTransition:
                pass

        threads = [
            threading.Thread(target=end, args=(status,))
            for status in (Status.FAILED, Status.STOPPED) * 4
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert winners == [answer.status]


class TestAnAnswer:
    def test_is_written_saved_and_then_ended(self) -> None:
        worker, stream = Worker(), FakeStream("Hello", " world.")
        answer = worker.finish(stream)
        assert kinds(answer) == ["start", "message", "message", "done"]
        assert [event.number for event in events(answer)] == [1, 2, 3, 4]
        assert events(answer)[-1].fields() == {
            "finish_reason": "stop",
            "usage": USAGE,
            "usage_source": "provider",
        }
        # Saved with all text, before the last event was in the log.
        assert worker.saved == [(Status.DONE, "Hello world.", 3)]
        assert stream.closed == 1
        assert not answer.running
        assert answer.settled.is_set()

    def test_that_fails_keeps_what_was_written_and_says_why(self) -> None:
        worker = Worker()
        answer = worker.finish(FakeStream("Half", fault=UpstreamCut("Broke off.")))
        assert kinds(answer) == ["start", "message", "failed"]
        assert events(answer)[-1].fields()["code"] == "upstream_cut"
        assert worker.saved == [(Status.FAILED, "Half", 2)]

    def test_that_is_refused_fails_before_it_is_accepted(self) -> None:
        def refuse() -> FakeStream:
            raise UpstreamBusy("Busy.", retry_after=3)

        worker = Worker()
        answer, _ = worker.answers.create("me", None)
        worker.answers.run(answer, refuse, FakeStream())
        assert worker.answers.join(30)
        assert (answer.status, answer.accepted, answer.error.code) == (
            Status.FAILED,
            False,
            "upstream_busy",
        )

    def test_that_meets_a_fault_of_ours_fails_and_the_log_has_the_traceback(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        answer = Worker().finish(FakeStream("a", fault=ZeroDivisionError("secret")))
        end = events(answer)[-1]
        assert (end.type, end.fields()["code"]) == (EventType.FAILED, "internal")
        assert b"secret" not in end.data
        assert "ZeroDivisionError" in caplog.text

    def test_ends_with_length_where_it_is_as_long_as_allowed(self) -> None:
        worker, stream = Worker(answer_max_chars=7), FakeStream("12345", "67890", "never")
        answer = worker.finish(stream)
        assert answer.log.text() == "1234567"
        assert events(answer)[-1].fields()["finish_reason"] == "length"
        assert stream.closed == 1

    def test_whose_saving_fails_is_failed_and_not_done(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def save(_: Answer) -> None:
            raise OSError("disk full at /secret/path")

        answer = Worker(save).finish(FakeStream("text"))
        assert (answer.status, kinds(answer)[-1]) == (Status.FAILED, "failed")
        assert isinstance(answer.error, InternalError)
        assert b"secret" not in events(answer)[-1].data
        assert "could not be saved" in caplog.text

    def test_that_failed_does_not_hold_on_to_the_request_and_its_history(self) -> None:
        """Ended answers are kept for an hour, ten thousand of them."""

        class History:
            pass

        history = History()
        gone = weakref.ref(history)

        def refuse(big: History = history) -> FakeStream:
            try:
                raise OSError(big)
            except OSError:
                raise UpstreamBusy("Busy.") from None

        worker = Worker()
        answer, _ = worker.answers.create("me", None)
        worker.answers.run(answer, refuse, FakeStream())
        assert worker.answers.join(30)
        del history, refuse

        def collected() -> bool:
            gc.collect()
            return gone() is None

        poll(collected)
        assert worker.answers.find(answer.id) is answer

    def test_wakes_its_readers_for_every_piece_and_for_its_end(self) -> None:
        worker, stream, bell = Worker(), FakeStream("a"), Bell()
        stream.may_go_on.clear()
        stream.may_accept.clear()
        answer = worker.start(stream)
        answer.readers.add(bell)
        stream.may_accept.set()
        assert bell.wait(30)
        poll(lambda: answer.log.last == 2)
        stream.may_go_on.set()
        poll(lambda: bell.wait(0.01) and not answer.running)


class TestStopping:
    def test_before_the_upstream_has_accepted(self) -> None:
        worker, stream = Worker(), FakeStream("never")
        stream.may_accept.clear()
        answer = worker.start(stream)
        assert stream.asked.wait(30)
        worker.answers.stop(answer)
        assert (answer.status, answer.running) == (Status.STOPPED, False)
        assert kinds(answer) == ["start", "done"]
        assert events(answer)[-1].fields()["finish_reason"] == "stopped"
        assert stream.cancelled
        assert worker.answers.join(30)

    def test_before_the_writer_was_even_started(self) -> None:
        """Whoever joined by the key may stop an answer that is still being recorded."""
        worker, stream = Worker(), FakeStream("never")
        answer, _ = worker.answers.create("me", "key")
        worker.answers.stop(answer)
        worker.answers.run(answer, stream.open, stream)
        assert kinds(answer) == ["start", "done"]
        assert not stream.asked.is_set()
        assert worker.answers.join(30)
        assert worker.saved == [(Status.STOPPED, "", 1)]

    def test_in_mid_stream_keeps_the_text(self) -> None:
        worker, stream = Worker(), FakeStream("partial")
        stream.may_go_on.clear()
        answer = worker.start(stream)
        poll(lambda: answer.log.last == 2)
        worker.answers.stop(answer)
        assert worker.answers.join(30)
        assert kinds(answer) == ["start", "message", "done"]
        assert events(answer)[-1].fields()["finish_reason"] == "stopped"
        assert (answer.log.text(), answer.status) == ("partial", Status.STOPPED)
        assert stream.closed == 1

    def test_an_answer_that_is_over_changes_nothing(self) -> None:
        worker = Worker()
        answer = worker.finish(FakeStream("all"))
        before = events(answer)
        for _ in range(3):
            worker.answers.stop(answer)
        assert events(answer) == before
        assert (answer.status, worker.answers.ended) == (Status.DONE, {Status.DONE: 1})

    @pytest.mark.parametrize("accepting", [True, False])
    def test_by_many_threads_at_the_moment_of_the_end_gives_one_end(self, accepting: bool) -> None:
        for _ in range(20):
            worker, stream = Worker(), FakeStream("a")
            held = stream.may_accept if accepting else stream.may_go_on
            held.clear()
            answer = worker.start(stream)
            start = threading.Barrier(4)

            def stop(
                start: threading.Barrier = start, worker: Worker = worker, answer: Answer = answer
            ) -> None:
                start.wait()
                worker.answers.stop(answer)

            threads = [threading.Thread(target=stop) for _ in range(3)]
            for thread in threads:
                thread.start()
            start.wait()
            held.set()
            for thread in threads:
                thread.join(30)
            assert worker.answers.join(30)
            ends = [kind for kind in kinds(answer) if kind in ("done", "failed")]
            assert ends == ["done"]
            assert kinds(answer)[-1] == "done"
            assert len(worker.saved) == 1
            assert sum(worker.answers.ended.values()) == 1

    def test_the_first_decision_stands(self) -> None:
        worker, stream = Worker(), FakeStream("a")
        stream.may_go_on.clear()
        answer = worker.start(stream)
        poll(lambda: answer.log.last == 2)
        answer.halt(Status.STOPPED, None)
        worker.answers.interrupt()
        assert worker.answers.join(30)
        assert answer.status is Status.STOPPED

    @pytest.mark.parametrize("pending", [True, False])
    def test_a_restart_ends_every_answer_as_interrupted(self, pending: bool) -> None:
        worker = Worker()
        streams = [FakeStream("text") for _ in range(3)]
        for stream in streams:
            (stream.may_accept if pending else stream.may_go_on).clear()
        started = [worker.start(stream) for stream in streams]
        poll(lambda: all(stream.waiting.is_set() for stream in streams))
        poll(lambda: pending or all(answer.log.last == 2 for answer in started))
        worker.answers.interrupt()
        assert worker.answers.join(30)
        for answer in started:
            end = events(answer)[-1].fields()
            assert (end["code"], end["retryable"]) == ("interrupted", True)
            assert answer.status is Status.FAILED
        assert [status for status, _, _ in worker.saved] == [Status.FAILED] * 3

    def test_an_answer_that_nobody_follows_is_stopped_after_a_while_and_others_are_not(
        self,
    ) -> None:
        worker = Worker(abandon_after=0.01)
        streams = [FakeStream("text"), FakeStream("text")]
        for stream in streams:
            stream.may_go_on.clear()
        followed, _ = worker.answers.create("me", None)
        followed.readers.add(Bell())
        worker.answers.run(followed, streams[0].open, streams[0])
        abandoned = worker.start(streams[1])
        poll(lambda: not abandoned.running)
        assert abandoned.status is Status.STOPPED
        assert followed.running
        worker.answers.stop(followed)

    def test_nothing_is_abandoned_where_the_option_is_off(self) -> None:
        assert Settings().abandon_after == 0


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
            worker.answers.create("me", None)
        assert caught.value.retry_after
        assert worker.answers.running == 2
        streams[0].cancel()
        poll(lambda: worker.answers.running == 1)
        streams[1].cancel()
        worker.finish(FakeStream("b"))

    def test_a_key_means_the_same_answer_for_the_same_owner_only(self) -> None:
        worker = Worker()
        answer = worker.finish(FakeStream("a"), key="k")
        assert worker.answers.create("me", "k") == (answer, False)
        other, is_new = worker.answers.create("other", "k")
        assert is_new
        assert other is not answer
        unnamed = {worker.answers.create("me", None)[0].id for _ in range(2)}
        assert len(unnamed) == 2

    def test_threads_with_one_key_get_one_answer(self) -> None:
        worker, start = Worker(), threading.Barrier(8)
        got: list[tuple[Answer, bool]] = []

        def create() -> None:
            start.wait()
            got.append(worker.answers.create("me", "k"))

        threads = [threading.Thread(target=create) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len({answer.id for answer, _ in got}) == 1
        assert sum(is_new for _, is_new in got) == 1

    def test_a_discarded_answer_is_forgotten_its_key_is_free_and_who_waits_is_told(self) -> None:
        worker, bell = Worker(), Bell()
        answer, _ = worker.answers.create("me", "k")
        answer.readers.add(bell)
        error = UpstreamBusy("Busy.")
        worker.answers.discard(answer, error)
        assert worker.answers.find(answer.id) is None
        assert (answer.error, answer.settled.is_set(), answer.running) == (error, True, False)
        assert bell.wait(0)
        assert worker.answers.running == 0
        assert worker.answers.join(0)
        assert worker.answers.create("me", "k")[1]

    def test_discarding_what_has_ended_and_was_kept(self) -> None:
        worker = Worker()
        answer = worker.finish(FakeStream("a"), key="k")
        worker.answers.discard(answer, UpstreamBusy("Busy."))
        assert worker.answers.find(answer.id) is None
        assert worker.answers.create("me", "k")[1]

    def test_so_many_ended_answers_are_kept_and_the_oldest_go_first_with_their_keys(self) -> None:
        worker = Worker(answers_kept=2)
        made = [worker.finish(FakeStream("a"), key=f"k{n}") for n in range(4)]
        kept = [worker.answers.find(answer.id) is not None for answer in made]
        assert kept == [False, False, True, True]
        assert worker.answers.create("me", "k0")[1]
        assert not worker.answers.create("me", "k3")[1]

    def test_so_many_bytes_of_ended_answers_are_kept(self) -> None:
        worker = Worker(logs_max_bytes=3000)
        made = [worker.finish(FakeStream("x" * 500)) for _ in range(5)]
        kept = [answer for answer in made if worker.answers.find(answer.id)]
        assert kept == made[-len(kept) :]
        assert sum(answer.log.size for answer in kept) <= 3000
        assert 1 < len(kept) < 5

    def test_ended_answers_are_kept_for_so_long(self) -> None:
        worker = Worker(answer_age=0.01)
        answer = worker.finish(FakeStream("a"), key="k")
        poll(lambda: worker.answers.find(answer.id) is None)
        assert worker.answers.create("me", "k")[1]

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
        worker, bells = Worker(), [Bell(), Bell()]
        ended = worker.finish(FakeStream("a"))
        stream = FakeStream("b")
        stream.may_go_on.clear()
        running = worker.start(stream)
        for answer, bell in zip((ended, running), bells, strict=True):
            answer.readers.add(bell)
        worker.answers.leave()
        assert worker.answers.leaving
        assert all(bell.wait(30) for bell in bells)
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
