"""What the other workers read in the end is what was written here, whatever the event log does."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.answers.answer import Answer
from chatapp.answers.events import EventType
from chatapp.answers.live_log import LiveLog
from chatapp.answers.outcome import Status
from chatapp.eventlog import MemoryEventLog
from chatapp.replication.replicas import absorb
from chatapp.replication.replicator import Replicator
from chatapp.replication.segments import record_of
from tests.support.hypothesis_settings import FEW, MANY, TEXTS
from tests.support.replication import (
    FAULTS,
    REASONING,
    Desk,
    FlakyLog,
    begun,
    copy_of,
    end,
    events,
    write,
)
from tests.support.upstream import poll

STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["text", "reasoning"]), TEXTS.filter(bool)),
        st.sampled_from([("flush", ""), ("flush", ""), ("tool", "")]),
    ),
    max_size=30,
)


def play(answer: Answer, desk: Desk, steps: list[tuple[str, str]]) -> None:
    for kind, text in steps:
        if kind == "flush":
            desk.flush()
        elif kind == "tool":
            answer.log.append(EventType.TOOL, b'{"id":"1","name":"clock"}')
        else:
            write(answer, text, kind=REASONING if kind == "reasoning" else EventType.TEXT)


class TestAFlakyEventLog:
    @MANY
    @given(STEPS, FAULTS)
    def test_ends_with_every_event_once_and_in_order(
        self, steps: list[tuple[str, str]], faults: list[str]
    ) -> None:
        log = MemoryEventLog()
        desk, answer = Desk(FlakyLog(log, faults)), begun()
        desk.replicator.watch(answer, claimed=False)
        play(answer, desk, steps)
        end(answer)
        desk.finish()
        assert events(copy_of(log, answer)) == events(answer)
        assert log.find(answer.id).status == "done"
        assert desk.lost == []

    @MANY
    @given(STEPS, FAULTS, st.integers(200, 2000))
    def test_ends_with_the_whole_text_where_events_were_trimmed_meanwhile(
        self, steps: list[tuple[str, str]], faults: list[str], most: int
    ) -> None:
        log = MemoryEventLog()
        desk, answer = Desk(FlakyLog(log, faults)), begun(max_bytes=most)
        desk.replicator.watch(answer, claimed=False)
        play(answer, desk, steps)
        end(answer)
        desk.finish()
        copy = copy_of(log, answer)
        assert copy.log.text() == answer.log.text()
        assert copy.log.text(REASONING) == answer.log.text(REASONING)
        assert copy.log.last == answer.log.last
        assert copy.status is Status.DONE

    @FEW
    @given(STEPS, FAULTS, st.integers(200, 2000))
    def test_is_read_along_to_the_same_text(
        self, steps: list[tuple[str, str]], faults: list[str], most: int
    ) -> None:
        """A reader that looks after each flush, also between one and its repetition."""
        log = MemoryEventLog()
        desk, answer = Desk(FlakyLog(log, faults)), begun(max_bytes=most)
        reader = Answer("me", LiveLog(1 << 30), 1, answer.id)

        def look() -> None:
            segments, _ = log.read({answer.id: reader.log.last})
            before = reader.log.last
            for new in segments.values():
                absorb(reader, new)
                assert reader.log.last > before

        desk.replicator.watch(answer, claimed=False)
        for step in steps:
            play(answer, desk, [step])
            look()
        end(answer)
        desk.finish()
        look()
        assert reader.log.text() == answer.log.text()
        assert (reader.log.last, reader.running) == (answer.log.last, False)

    @FEW
    @given(st.lists(STEPS, min_size=2, max_size=4), FAULTS)
    def test_mixes_nothing_up_between_answers(
        self, several: list[list[tuple[str, str]]], faults: list[str]
    ) -> None:
        log = MemoryEventLog()
        desk = Desk(FlakyLog(log, faults))
        answers = [begun() for _ in several]
        for answer, steps in zip(answers, several, strict=True):
            desk.replicator.watch(answer, claimed=False)
            play(answer, desk, steps)
        for answer in answers:
            end(answer)
        desk.finish()
        for answer in answers:
            assert events(copy_of(log, answer)) == events(answer)

    def test_that_is_away_stalls_no_writer_and_is_caught_up_with(self) -> None:
        log = MemoryEventLog()
        flaky = FlakyLog(log)
        desk, answer = Desk(flaky), begun()
        desk.replicator.watch(answer, claimed=False)
        flaky.away = True
        for number in range(50):
            write(answer, f"{number} ")
            desk.flush()
        desk.replicator.confirm(answer)
        flaky.away = False
        end(answer)
        desk.finish()
        assert events(copy_of(log, answer)) == events(answer)

    def test_is_said_to_fail_while_it_is_away_and_recovers_by_itself(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("chatapp.runtime.background.MIN_PAUSE_SECONDS", 0.001)
        monkeypatch.setattr("chatapp.runtime.background.MAX_PAUSE_SECONDS", 0.001)
        log = MemoryEventLog()
        flaky = FlakyLog(log)
        flaky.away = True
        replicator = Replicator(
            flaky,  # type: ignore[arg-type]
            lambda: "here",
            0.001,
            *[lambda _: None] * 4,  # type: ignore[list-item]
        )
        answer = begun()
        replicator.watch(answer, claimed=False)
        poll(lambda: replicator.failing)
        flaky.away = False
        poll(lambda: log.find(answer.id))
        poll(lambda: not replicator.failing)
        write(answer, "text")
        end(answer)
        poll(lambda: not replicator.behind)
        replicator.close(30)
        assert events(copy_of(log, answer)) == events(answer)


class TestAnEventLogThatWasEmptied:
    def test_gets_a_wanted_answer_anew_from_its_first_event(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        log = MemoryEventLog()
        desk, answer = Desk(log), begun(key="k")
        desk.replicator.watch(answer, claimed=False)
        write(answer, "before ")
        desk.flush()
        log.discard([answer.id])
        write(answer, "after.")
        desk.flush()
        end(answer)
        desk.finish()
        assert events(copy_of(log, answer)) == events(answer)
        assert "written again" in caplog.text
        assert log.claim(record_of(begun(key="k"), "x")).id == answer.id
        assert desk.lost == []

    def test_gets_it_without_its_key_where_that_stands_for_a_newer_answer(self) -> None:
        log = MemoryEventLog()
        desk, answer = Desk(log), begun(key="k")
        desk.replicator.watch(answer, claimed=False)
        desk.flush()
        log.discard([answer.id])
        newer = begun(key="k")
        log.claim(record_of(newer, "there"))
        write(answer, "text")
        end(answer)
        desk.finish()
        assert events(copy_of(log, answer)) == events(answer)
        assert log.claim(record_of(begun(key="k"), "x")).id == newer.id

    def test_loses_one_that_nobody_wants_and_it_is_handed_over(self) -> None:
        log = MemoryEventLog()
        desk, answer = Desk(log), begun()
        desk.wanted = False
        desk.replicator.watch(answer, claimed=False)
        desk.flush()
        log.discard([answer.id])
        write(answer, "late")
        desk.flush()
        assert (desk.deleted, desk.lost) == ([answer], [])
        assert (desk.replicator.behind, log.find(answer.id)) == (0, None)

    def test_is_noticed_by_an_end_that_brings_no_text(self) -> None:
        log = MemoryEventLog()
        desk, answer = Desk(log), begun()
        desk.replicator.watch(answer, claimed=False)
        desk.flush()
        log.discard([answer.id])
        end(answer)
        desk.finish()
        assert events(copy_of(log, answer)) == events(answer)


class TestAnEventLogThatWasSetBack:
    @FEW
    @given(st.integers(1, 9), st.booleans())
    def test_gets_again_what_it_has_lost(self, kept: int, over: bool) -> None:
        log, earlier = MemoryEventLog(), MemoryEventLog()
        desk, answer = Desk(log), begun()
        desk.replicator.watch(answer, claimed=False)
        for number in range(10):
            write(answer, f"{number} ")
            desk.flush()
            if number == kept - 1:
                earlier.claim(replace(log.find(answer.id), status="pending"))
                for segments in log.read({answer.id: 0})[0].values():
                    for segment in segments:
                        earlier._answers[answer.id].segments.append(segment)
        desk.replicator._log = earlier
        if over:
            end(answer)
        else:
            write(answer, "last")
        desk.flush()
        desk.flush()
        assert events(copy_of(earlier, answer)) == events(answer)
        assert desk.lost == []
        assert earlier.find(answer.id).status == ("done" if over else "streaming")
