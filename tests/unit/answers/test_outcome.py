"""An answer goes through its life one way, and its values say the same in every form."""

from itertools import product

import pytest

from chatapp.answers.events import EventType
from chatapp.answers.outcome import RUNNING, TRANSITIONS, Outcome, Status, Transcript
from chatapp.errors import CODES, Interrupted


def test_every_status_is_either_running_or_a_last_one() -> None:
    assert {status for status in Status if TRANSITIONS[status]} == RUNNING


@pytest.mark.parametrize(("one", "other"), list(product(Status, Status)))
def test_there_is_no_way_back(one: Status, other: Status) -> None:
    reached, front = set(), {one}
    while front:
        front = {after for each in front for after in TRANSITIONS[each]} - reached
        reached |= front
    assert not (other in reached and one in TRANSITIONS[other])


def test_only_an_answer_that_the_upstream_accepted_can_be_done() -> None:
    assert [status for status in Status if Status.DONE in TRANSITIONS[status]] == [Status.STREAMING]


def test_a_transcript_gives_each_kind_its_text() -> None:
    transcript = Transcript(7, "said", "thought")
    assert transcript.of(EventType.TEXT) == "said"
    assert transcript.of(EventType.REASONING) == "thought"
    assert transcript.fields() == {"text": "said", "reasoning": "thought"}


def test_the_error_of_an_outcome_is_told_as_json_and_never_in_a_done_event() -> None:
    outcome = Outcome("stop", {"total_tokens": 3}, "provider", Interrupted("It went down."))
    assert "error" not in outcome.done_fields()
    told = outcome.fields()["error"]
    assert CODES[told["code"]] is Interrupted
    assert told["message"] == "It went down."
    assert Outcome().fields() == dict.fromkeys(("finish_reason", "usage", "usage_source", "error"))
