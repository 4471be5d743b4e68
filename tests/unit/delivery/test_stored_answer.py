"""A reader of a stored answer ends with the same text and the same end as one of its log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.answers.outcome import Outcome, Status
from chatapp.delivery.stored_answer import frames_of_stored_answer
from chatapp.errors import UpstreamCut
from tests.support.event_stream import decode
from tests.support.hypothesis_settings import FEW, TEXTS
from tests.support.replication import REASONING, begun, end, events, write

USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
ENDS = st.sampled_from(
    [
        (Status.DONE, Outcome("stop", USAGE, "provider")),
        (Status.STOPPED, Outcome("stopped", USAGE, "estimated")),
        (Status.FAILED, Outcome(error=UpstreamCut("The connection was cut."))),
    ]
)


@FEW
@given(TEXTS, TEXTS, ENDS)
def test_its_snapshot_has_all_that_was_written_and_its_end_is_the_logs_own(
    text: str, reasoning: str, ended: tuple[Status, Outcome]
) -> None:
    answer = begun()
    write(answer, reasoning, kind=REASONING)
    write(answer, text)
    end(answer, *ended)
    first, *_, last = events(answer)
    wire = frames_of_stored_answer(first, answer.log.transcript(), answer.status, answer.outcome)
    start, snapshot, final = decode([wire])
    assert (start.event, start.id, start.data) == ("start", "1", first.data)
    assert (final.event, final.id, final.data) == (last.type, str(last.number), last.data)
    assert int(start.id) < int(snapshot.id) < int(final.id), "a cursor never goes back"
    again = begun().log
    again.restart(answer.log.transcript())
    assert (again.text(), again.text(REASONING)) == (text, reasoning)


@pytest.mark.parametrize("status", [Status.DONE, Status.FAILED])
def test_who_has_seen_the_beginning_does_not_get_it_again(status: Status) -> None:
    answer = begun()
    write(answer, "text")
    end(answer, status)
    wire = frames_of_stored_answer(None, answer.log.transcript(), answer.status, answer.outcome)
    assert [each.event for each in decode([wire])] == ["snapshot", "done"]
