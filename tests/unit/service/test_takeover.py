"""An answer of a dead worker ends, or goes on, and its readers see no number twice."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.answers.answer import Answer
from chatapp.answers.outcome import Status
from chatapp.conversations.model import Content
from chatapp.replication.leases import BEAT
from chatapp.replication.segments import new_segments, record_of
from chatapp.service.takeover import MAX_CRASHES, MAX_UNKNOWN_EVENTS, skip_unknown
from tests.support.hypothesis_settings import FEW
from tests.support.one_chat import ME, OneChat
from tests.support.replication import begun, end, write
from tests.support.upstream import FakeUpstream, poll, speak

StartChat = Callable[..., OneChat]
SILENT_BEATS = 20


def left_behind(
    chat: OneChat, *texts: str, crashes: int = 0, ended: bool = False, stop: bool = False
) -> Answer:
    """What a worker called `dead` had written when it died, after which this one notices that."""
    answer = begun()
    answer.owner, answer.model = ME, "fake-model"
    asked = chat.store.ask(ME, None, Content("Question?"), answer.id, None, "fake-model")
    answer.conversation_id, answer.request = asked.id, b'{"messages": null, "options": {}}'
    log = chat.service.event_log
    log.claim(replace(record_of(answer, "dead"), crashes=crashes))
    write(answer, *texts)
    if ended:
        end(answer)
    log.write("dead", new_segments(answer, 0), [], [])
    if stop:
        log.request_stop(answer.id)
    for _ in range(SILENT_BEATS):
        chat.service.leases.beat()
    return answer


def heir_of(chat: OneChat, answer: Answer) -> Answer:
    """The answer as it is written on here, when it has ended."""
    found: Answer = poll(lambda: chat.service.answers.find(answer.id))
    poll(lambda: not found.running)
    return found


@pytest.fixture
def chat(start_chat: StartChat) -> OneChat:
    return start_chat(takeover="continue", lease=2 * BEAT)


def test_by_default_it_ends_as_interrupted_with_what_was_written(start_chat: StartChat) -> None:
    chat = start_chat(lease=2 * BEAT)
    heir = heir_of(chat, left_behind(chat, "Half of "))
    assert (heir.status, heir.outcome.error.code) == (Status.FAILED, "interrupted")
    kept = chat.kept(heir)
    assert (kept.status, kept.content.text) == ("failed", "Half of ")


def test_where_that_is_wanted_the_model_goes_on_from_what_was_written(
    chat: OneChat, upstream: FakeUpstream
) -> None:
    upstream.script = speak("the ", "story.")
    heir = heir_of(chat, left_behind(chat, "Half of "))
    assert (heir.status, heir.log.text()) == (Status.DONE, "Half of the story.")
    question, written = upstream.calls[0].json["messages"]
    assert (question["content"], written["content"]) == ("Question?", "Half of ")


def test_one_that_somebody_stopped_is_stopped(chat: OneChat, upstream: FakeUpstream) -> None:
    heir = heir_of(chat, left_behind(chat, "Half of ", stop=True))
    assert (heir.status, upstream.calls) == (Status.STOPPED, [])


def test_one_that_took_down_several_workers_is_not_tried_again(
    chat: OneChat, upstream: FakeUpstream
) -> None:
    heir = heir_of(chat, left_behind(chat, "Half of ", crashes=MAX_CRASHES))
    assert (heir.outcome.error.code, upstream.calls) == ("interrupted", [])


def test_of_one_whose_end_is_written_only_the_status_is_added(
    chat: OneChat, upstream: FakeUpstream
) -> None:
    answer = left_behind(chat, "All of it.", ended=True)
    poll(lambda: chat.service.event_log.find(answer.id).status == "done")
    assert (chat.service.answers.find(answer.id), upstream.calls) == (None, [])


@FEW
@given(st.lists(st.text(min_size=1), max_size=5), st.integers(1, MAX_UNKNOWN_EVENTS - 1))
def test_a_reader_ahead_of_the_event_log_gets_a_snapshot_and_never_a_wrong_event(
    texts: list[str], ahead: int
) -> None:
    """The dead writer may have sent it events that nobody kept: their numbers stay unused."""
    answer = begun()
    write(answer, *texts)
    seen, text = answer.log.last + ahead, answer.log.text()
    skip_unknown(answer)
    write(answer, "new")
    with pytest.raises(LookupError):
        answer.log.read(seen)
    assert answer.log.text() == text + "new"
