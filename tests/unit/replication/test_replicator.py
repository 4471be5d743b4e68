"""What the other workers read is what was written here, whatever fails on the way."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.answers.events import EventType
from chatapp.answers.outcome import Status
from chatapp.answers.registry import AnswerRegistry
from chatapp.answers.sse import decode_frames
from chatapp.errors import StorageUnavailable
from chatapp.eventlog import MemoryEventLog, PendingMessage
from chatapp.replication import replicator as module
from chatapp.replication import segments as segments_module
from chatapp.replication.segments import new_segments, record_of
from chatapp.settings import Settings
from tests.support.hypothesis_settings import FEW, TEXTS
from tests.support.replication import FAULTS, Desk, FlakyLog, begun, copy_of, end, events, write


class TestOneAnswer:
    def test_gets_there_event_by_event_with_its_status(self) -> None:
        log = MemoryEventLog()
        desk, answer = Desk(log), begun()
        desk.replicator.watch(answer, claimed=False)
        write(answer, "Hello ", "world.")
        desk.flush()
        assert log.find(answer.id).status == "streaming"
        assert (log.find(answer.id).last_event, log.find(answer.id).writer) == (
            answer.log.last,
            "here",
        )
        write(answer, " More.")
        end(answer)
        desk.flush()
        assert events(copy_of(log, answer)) == events(answer)
        assert log.find(answer.id).status == "done"
        assert desk.replicator.behind == 0

    def test_that_waits_for_its_upstream_is_known_as_pending(self) -> None:
        log = MemoryEventLog()
        desk, answer = Desk(log), begun()
        answer.status, answer.accepted = Status.PENDING, False
        desk.replicator.watch(answer, claimed=False)
        desk.flush()
        assert (log.find(answer.id).status, log.find(answer.id).last_event) == ("pending", 1)

    def test_that_is_taken_over_goes_on_where_the_event_log_ends(self) -> None:
        log = MemoryEventLog()
        desk, answer = Desk(log), begun()
        desk.replicator.watch(answer, claimed=False)
        write(answer, "first ")
        desk.flush()
        assert log.take(answer.id, 1, "there")
        there = Desk(log, "there")
        taken = copy_of(log, answer)
        taken.epoch = 2
        taken.resume()
        taken.move(Status.STREAMING)
        there.replicator.watch(taken, claimed=True, cursor=taken.log.last)
        write(taken, "second.")
        end(taken)
        there.flush()
        assert copy_of(log, answer).log.text() == "first second."
        assert log.find(answer.id).status == "done"

    def test_that_is_forgotten_is_removed_and_nothing_more_is_written(self) -> None:
        log = MemoryEventLog()
        desk, answer = Desk(log), begun()
        desk.replicator.watch(answer, claimed=False)
        desk.flush()
        desk.replicator.forget(answer)
        write(answer, "late")
        desk.flush()
        assert (log.find(answer.id), desk.replicator.behind) == (None, 0)

    @pytest.mark.parametrize("fault", ["before", "after"])
    def test_that_is_forgotten_while_nobody_knows_whether_it_was_claimed_leaves_nothing(
        self, fault: str
    ) -> None:
        log = MemoryEventLog()
        desk, answer = Desk(FlakyLog(log, [fault])), begun()
        desk.replicator.watch(answer, claimed=False)
        desk.flush()
        desk.replicator.forget(answer)
        desk.flush()
        assert log.find(answer.id) is None

    def test_that_is_forgotten_while_it_is_being_claimed_leaves_nothing(self) -> None:
        log = MemoryEventLog()
        flaky = FlakyLog(log)
        desk, answer = Desk(flaky), begun()

        class Forgetting(FlakyLog):
            def add(self, records: Any) -> None:
                desk.replicator.forget(answer)
                log.add(records)

        desk.replicator._log = Forgetting(log)
        desk.replicator.watch(answer, claimed=False)
        desk.flush()
        desk.flush()
        assert log.find(answer.id) is None

    def test_that_is_dropped_stays_as_far_as_it_was_written(self) -> None:
        log = MemoryEventLog()
        desk, answer = Desk(log), begun()
        desk.replicator.watch(answer, claimed=False)
        desk.flush()
        desk.replicator.drop(answer)
        write(answer, "late")
        end(answer)
        desk.flush()
        assert (log.find(answer.id).last_event, desk.replicator.behind) == (1, 0)

    def test_is_not_ended_before_it_is_known_whether_it_began(self) -> None:
        """What the upstream refuses at once never was, and its key is free."""
        log = MemoryEventLog()
        desk, answer = Desk(log), begun()
        answer.provisional = True
        desk.replicator.watch(answer, claimed=False)
        end(answer, Status.FAILED)
        desk.flush()
        assert log.find(answer.id).status == "pending"
        answer.provisional = False
        desk.finish()
        assert log.find(answer.id).status == "failed"

    def test_that_was_refused_is_not_written_and_not_tried_for_ever(self) -> None:
        log = MemoryEventLog()
        desk, answer = Desk(log), begun(key="k")
        log.claim(record_of(answer, "here"))
        desk.replicator.watch(answer, claimed=True)
        log.refuse(answer.id, 1, b"{}")
        end(answer, Status.FAILED)
        desk.finish()
        assert log.find(answer.id).status == "refused"


class TestAnAnswerOfAnotherWorker:
    def test_is_reported_as_lost_and_nothing_of_it_gets_in(self) -> None:
        log = MemoryEventLog()
        desk, answer, other = Desk(log), begun(), begun()
        for each in (answer, other):
            desk.replicator.watch(each, claimed=False)
        desk.flush()
        assert log.take(answer.id, 1, "there")
        write(answer, "late")
        write(other, "in time")
        desk.flush()
        assert (desk.lost, desk.replicator.behind) == ([answer], 1)
        assert copy_of(log, answer).log.text() == ""
        assert copy_of(log, other).log.text() == "in time"

    def test_confirm_finds_it_before_the_end_is_written(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log = MemoryEventLog()
        desk, answer = Desk(log), begun()
        desk.replicator.watch(answer, claimed=False)
        desk.flush()
        log.take(answer.id, 1, "there")
        write(answer, "late")
        monkeypatch.setattr(module, "CONFIRMED_FOR", -1.0)
        desk.replicator.confirm(answer)
        assert desk.lost == [answer]

    def test_is_reported_also_where_the_event_log_goes_away_just_then(self) -> None:
        log = MemoryEventLog()
        flaky = FlakyLog(log)
        desk, first, second = Desk(flaky), begun(), begun()
        for each in (first, second):
            desk.replicator.watch(each, claimed=False)
        desk.flush()
        for each in (first, second):
            log.take(each.id, 1, "there")
            write(each, "late")
        flaky.faults = ["", "", "before"]  # The write and the first look work.
        desk.flush()
        assert desk.lost == [first]
        desk.flush()
        assert desk.lost == [first, second]


class TestAStop:
    def test_that_was_asked_for_elsewhere_reaches_the_writer(self) -> None:
        log = MemoryEventLog()
        desk, answer, other = Desk(log), begun(), begun()
        for each in (answer, other):
            desk.replicator.watch(each, claimed=False)
        desk.flush()
        log.request_stop(answer.id)
        desk.flush()
        assert desk.stopped == [answer]

    def test_of_a_pending_answer_is_carried_out_though_its_end_wants_to_be_confirmed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The write took longer than its confirmation holds, and the end flushes once more."""
        monkeypatch.setattr(module, "CONFIRMED_FOR", -1.0)
        log = MemoryEventLog()
        desk = Desk(log)
        answers = AnswerRegistry(Settings(), desk.replicator.confirm)
        desk.on_stop = answers.stop
        answer = answers.create("me")
        answers.adopt(answer)
        answer.log.append(EventType.START, answer.start_event().data)
        desk.replicator.watch(answer, claimed=False)
        desk.flush()
        log.request_stop(answer.id)
        flusher = threading.Thread(target=desk.flush, daemon=True)
        flusher.start()
        flusher.join(30)
        assert not flusher.is_alive()
        assert answer.status is Status.STOPPED
        desk.finish()
        assert log.find(answer.id).status == "stopped"


class TestPublications:
    @FEW
    @given(FAULTS, st.integers(1, 20))
    def test_get_out_in_their_order_at_least_once(self, faults: list[str], count: int) -> None:
        log = MemoryEventLog()
        desk = Desk(FlakyLog(log, faults))
        for number in range(count):
            desk.replicator.post(PendingMessage(None, "e", b"%d" % number))
            desk.flush()
        desk.finish()
        data = [int(each.data) for each in log.published(0)]
        assert sorted(set(data)) == list(range(count))
        firsts = [data.index(number) for number in range(count)]
        assert firsts == sorted(firsts)
        assert desk.posted

    def test_are_bounded_while_the_event_log_is_away_and_the_latest_stay(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(module, "MAX_PENDING_MESSAGES", 3)
        log = MemoryEventLog()
        desk = Desk(log)
        for number in range(5):
            desk.replicator.post(PendingMessage(None, "e", b"%d" % number))
        desk.flush()
        assert [each.data for each in log.published(0)] == [b"2", b"3", b"4"]
        assert "dropped" in caplog.text

    def test_that_come_during_a_flush_are_not_lost_though_there_are_too_many(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_PENDING_MESSAGES", 2)
        log = MemoryEventLog()
        desk = Desk(log)

        class Posting(FlakyLog):
            def write(self, *args: Any) -> Any:
                written = log.write(*args)
                if not self.calls:
                    self.calls.append("write")
                    desk.replicator.post(PendingMessage(None, "e", b"late"))
                return written

        desk.replicator._log = Posting(log)
        for _ in range(2):
            desk.replicator.post(PendingMessage(None, "e", b"early"))
        desk.flush()
        desk.flush()
        assert [each.data for each in log.published(0)] == [b"early", b"early", b"late"]


class TestSegments:
    @FEW
    @given(st.lists(TEXTS.filter(bool), max_size=30), st.integers(50, 500))
    def test_of_a_huge_answer_are_cut_between_events(self, texts: list[str], most: int) -> None:
        answer = begun()
        write(answer, *texts)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(segments_module, "MAX_SEGMENT_BYTES", most)
            segments = new_segments(answer, 0)
        assert b"".join(segment.wire for segment in segments) == answer.log.read(0)[0]
        at = 0
        for segment in segments:
            assert segment.first == at + 1
            decoded = decode_frames(segment.wire, segment.first)
            assert decoded == answer.log.events(at, segment.last)
            at = segment.last
            # Without its last event it would have been within the limit.
            assert len(segment.wire[:-2].rpartition(b"\n\n")[0]) <= most
        assert at == answer.log.last

    def test_of_nothing_new_are_none(self) -> None:
        answer = begun()
        write(answer, "text")
        assert new_segments(answer, answer.log.last) == []

    def test_of_an_answer_that_was_trimmed_begin_with_a_snapshot_alone(self) -> None:
        answer = begun(max_bytes=300)
        write(answer, *(f"{number} " for number in range(50)))
        snapshot, *rest = new_segments(answer, 1)
        (event,) = decode_frames(snapshot.wire, snapshot.first)
        assert event.type is EventType.SNAPSHOT
        assert event.fields()["text"] == answer.log.text()
        assert (snapshot.first, snapshot.last, rest) == (2, answer.log.last, [])

    def test_of_one_that_was_trimmed_and_is_over_end_with_its_last_event(self) -> None:
        answer = begun(max_bytes=300)
        write(answer, *(f"{number} " for number in range(50)))
        end(answer)
        snapshot, last = new_segments(answer, 1)
        final = answer.log.last
        assert (snapshot.last, last.first, last.last) == (final - 1, final, final)
        assert decode_frames(last.wire, last.first)[0].type is EventType.DONE

    def test_more_than_a_batch_is_written_by_several_flushes_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_BATCH_BYTES", 1000)
        log = MemoryEventLog()
        desk, answers = Desk(log), [begun() for _ in range(10)]
        for answer in answers:
            desk.replicator.watch(answer, claimed=False)
            write(answer, "x" * 800)
            end(answer)
        assert desk.replicator.flush() == 0.0
        assert 0 < desk.replicator.behind < 10
        desk.replicator.close(30)
        assert desk.replicator.behind == 0
        for answer in answers:
            assert events(copy_of(log, answer)) == events(answer)


class TestWhen:
    """The moments at which it writes, by a clock that only the test moves."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
        clock = SimpleNamespace(now=1000.0)
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
        return clock

    def test_what_begins_and_ends_is_gathered_and_written_soon(
        self, clock: SimpleNamespace
    ) -> None:
        flaky = FlakyLog(MemoryEventLog())
        desk, answers = Desk(flaky), [begun() for _ in range(3)]
        for answer in answers:
            desk.replicator.watch(answer, claimed=False)
            wait = desk.replicator._work()
            assert flaky.calls == []
            assert wait is not None
            clock.now += wait / 2
        clock.now += module.GATHERED_FOR
        desk.replicator._work()
        assert flaky.calls == ["add", "write"]
        assert all(flaky.find(answer.id).status == "streaming" for answer in answers)
        for answer in answers:
            end(answer)
        flaky.calls.clear()
        desk.replicator._work()
        assert flaky.calls == []
        clock.now += module.GATHERED_FOR
        assert desk.replicator._work() is None
        assert flaky.calls == ["write"]
        assert desk.replicator.behind == 0

    def test_text_is_written_once_an_interval_also_after_an_idle_time(
        self, clock: SimpleNamespace
    ) -> None:
        flaky = FlakyLog(MemoryEventLog())
        desk = Desk(flaky)
        for _ in range(2):
            answer = begun()
            desk.replicator.watch(answer, claimed=False)
            began = clock.now
            while clock.now < began + 2.0:
                write(answer, "text ")
                clock.now += desk.replicator._work() or 0.0
            assert 9 <= flaky.calls.count("write") <= 12
            assert flaky.calls.count("add") == 1
            end(answer)
            desk.finish()
            flaky.calls.clear()
            clock.now += 100.0


def test_a_replicator_that_is_closed_has_written_everything_also_without_a_flush_before() -> None:
    log = MemoryEventLog()
    desk, answer = Desk(log), begun()
    desk.replicator.watch(answer, claimed=False)
    write(answer, "text")
    end(answer)
    desk.replicator.close(30)
    assert events(copy_of(log, answer)) == events(answer)


def test_closing_while_the_event_log_is_away_ends_and_raises_nothing() -> None:
    flaky = FlakyLog(MemoryEventLog())
    flaky.away = True
    desk, answer = Desk(flaky), begun()
    desk.replicator.watch(answer, claimed=False)
    desk.replicator.close(30)
    assert desk.replicator.behind == 1
    with pytest.raises(StorageUnavailable):
        desk.replicator.flush()
