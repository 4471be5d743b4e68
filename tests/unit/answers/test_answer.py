"""An answer is written once and ends once, in whichever phase somebody stops it."""

import gc
import threading
import weakref
from itertools import product

import pytest

from chatapp.answers.answer import Answer, IllegalTransition
from chatapp.answers.events import EventType
from chatapp.answers.live_log import LiveLog
from chatapp.answers.outcome import TRANSITIONS, Status
from chatapp.errors import InternalError, UpstreamBusy, UpstreamCut
from chatapp.runtime.wakers import ThreadWaker
from chatapp.settings import Settings
from tests.support.in_memory_worker import USAGE, FakeStream, Worker, events, kinds
from tests.support.upstream import poll


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
        assert answer.accepted_or_refused.is_set()

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
        answer = worker.answers.create("me")
        worker.answers.run(answer, refuse, FakeStream())
        assert worker.answers.join(30)
        assert (answer.status, answer.accepted, answer.outcome.error.code) == (
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
        assert isinstance(answer.outcome.error, InternalError)
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
        answer = worker.answers.create("me")
        worker.answers.run(answer, refuse, FakeStream())
        assert worker.answers.join(30)
        del history, refuse

        def collected() -> bool:
            gc.collect()
            return gone() is None

        poll(collected)
        assert worker.answers.find(answer.id) is answer

    def test_wakes_its_readers_for_every_piece_and_for_its_end(self) -> None:
        worker, stream, waker = Worker(), FakeStream("a"), ThreadWaker()
        stream.may_go_on.clear()
        stream.may_accept.clear()
        answer = worker.start(stream)
        answer.readers.add(waker)
        stream.may_accept.set()
        assert waker.wait(30)
        poll(lambda: answer.log.last == 2)
        stream.may_go_on.set()
        poll(lambda: waker.wait(0.01) and not answer.running)


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
        """Whoever learns its id may stop an answer that is still being recorded."""
        worker, stream = Worker(), FakeStream("never")
        answer = worker.answers.create("me")
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
        answer.request_end(Status.STOPPED, None)
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
        followed = worker.answers.create("me")
        followed.readers.add(ThreadWaker())
        worker.answers.run(followed, streams[0].open, streams[0])
        abandoned = worker.start(streams[1])
        poll(lambda: not abandoned.running)
        assert abandoned.status is Status.STOPPED
        assert followed.running
        worker.answers.stop(followed)

    def test_nothing_is_abandoned_where_the_option_is_off(self) -> None:
        assert Settings().abandon_after == 0


class TestReasoningThatTheTemplateHasOpened:
    def test_is_known_at_its_end_and_readers_get_a_snapshot(self) -> None:
        worker = Worker()
        answer = worker.finish(FakeStream("Hm.", "\n</think>\n", "\nFour."))
        transcript = answer.log.transcript()
        assert (transcript.text, transcript.reasoning) == ("Four.", "Hm.")
        assert [text for _, text, _ in worker.saved] == ["Four."]
        for cursor in range(answer.log.last - 1):
            with pytest.raises(LookupError):
                answer.log.read(cursor)
        assert [event.type for event in answer.log.events(answer.log.last - 1)] == [EventType.DONE]

    def test_stays_text_where_the_option_is_off(self) -> None:
        answer = Worker(think_tags="off").finish(FakeStream("Hm.\n</think>\n\nFour."))
        assert answer.log.text() == "Hm.\n</think>\n\nFour."
