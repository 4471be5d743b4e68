"""A batch has what is new of each answer, once, and a status never before the events it follows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.answers.answer import Answer
from chatapp.answers.live_log import LiveLog
from chatapp.answers.outcome import Status
from chatapp.replication.batches import Batch, Entry
from chatapp.replication.segments import record_of
from tests.support.hypothesis_settings import FEW
from tests.support.replication import begun, end, write


def collected(*entries: Entry) -> Batch:
    batch = Batch()
    for entry in entries:
        batch.collect(entry)
    return batch


@FEW
@given(st.lists(st.lists(st.text(min_size=1), max_size=4), max_size=5), st.booleans())
def test_flush_by_flush_every_event_is_there_once(flushes: list[list[str]], ends: bool) -> None:
    answer = begun()
    entry, wire = Entry(answer, None), b""
    for number, texts in enumerate([*flushes, []]):
        write(answer, *texts)
        if ends and number == len(flushes):
            end(answer)
        batch = collected(entry)
        for segment in batch.segments:
            assert segment.first == entry.cursor + 1
            entry.cursor, wire = segment.last, wire + segment.wire
        assert batch.cursors.get(answer.id, entry.cursor) == entry.cursor == answer.log.last
        assert batch.size == sum(len(each.wire) for each in batch.segments)
    assert wire == answer.log.read(0)[0]
    assert collected(entry).segments == []


def test_a_last_status_goes_with_the_last_event() -> None:
    answer = begun()
    entry = Entry(answer, None)
    assert [state.status for state in collected(entry).states] == [Status.STREAMING]
    write(answer, "text")
    end(answer)
    (state,) = collected(entry).states
    assert (state.status, state.last_event) == (Status.DONE, answer.log.last)


def test_a_status_that_is_known_is_not_told_again() -> None:
    entry = Entry(begun(), None, status=Status.STREAMING)
    assert collected(entry).states == []


def test_the_end_of_an_answer_that_may_still_be_undone_is_told_to_nobody() -> None:
    answer = begun()
    answer.provisional = True
    end(answer)
    batch = collected(Entry(answer, None))
    assert (batch.segments, batch.states) == ([], [])


@pytest.mark.parametrize("claimed", [True, False])
def test_beginnings_and_ends_are_urgent_and_nothing_between(claimed: bool) -> None:
    answer = begun()
    entry = Entry(answer, None if claimed else record_of(answer, "me"))
    assert entry.urgent is not claimed
    entry.record = None
    write(answer, "text")
    assert not entry.urgent
    end(answer)
    assert entry.urgent


def test_answers_keep_apart() -> None:
    answers = [begun() for _ in range(3)]
    idle = Answer("me", LiveLog(1000), 1000)
    for number, answer in enumerate(answers):
        write(answer, f"text {number}")
    batch = collected(*(Entry(each, None) for each in (*answers, idle)))
    assert set(batch.cursors) == {each.id for each in answers}
    assert [each.answer_id for each in batch.segments] == [each.id for each in answers]
