"""A conversation does not wait for ever for an answer that nobody writes."""

from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo

import pytest

from chatapp.answers.answer import Answer
from chatapp.conversations.model import Content
from chatapp.eventlog import State
from chatapp.replication.segments import new_segments, record_of
from chatapp.service import housekeeping
from tests.support.one_chat import ME, OneChat
from tests.support.replication import begun, end, write
from tests.support.upstream import FakeUpstream, by_hand


@pytest.fixture
def chat(start_chat: Callable[..., OneChat], monkeypatch: pytest.MonkeyPatch) -> OneChat:
    """It takes what is asked in the test for an hour old."""

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(hours=1)

    monkeypatch.setattr(housekeeping, "datetime", Later)
    return start_chat()


def waiting(chat: OneChat, owner: str = ME) -> Answer:
    """An answer that a conversation waits for, and nobody writes."""
    answer = begun()
    answer.owner = owner
    answer.conversation_id = chat.store.ask(owner, None, Content("Hi"), answer.id, None).id
    return answer


def tidy(chat: OneChat) -> None:
    chat.service.housekeeping._tidy()


def status(chat: OneChat, answer: Answer) -> str:
    return str(chat.store.answer(answer.owner, answer.id).status)


def test_one_that_no_event_log_knows_is_ended_as_interrupted(chat: OneChat) -> None:
    answer = waiting(chat)
    tidy(chat)
    kept = chat.store.answer(ME, answer.id)
    assert (kept.status, kept.outcome.error.code) == ("failed", "interrupted")
    assert chat.store.conversation_of(ME, answer.id).running is None


def test_one_that_has_ended_in_the_event_log_is_kept_as_it_ended(chat: OneChat) -> None:
    answer, log = waiting(chat), chat.service.event_log
    log.claim(record_of(answer, "dead"))
    write(answer, "All of it.")
    end(answer)
    segments = new_segments(answer, 0)
    log.write("dead", segments, [State(answer.id, 1, "done", answer.log.last)], [])
    tidy(chat)
    kept = chat.store.answer(ME, answer.id)
    assert (kept.status, kept.content.text) == ("done", "All of it.")


def test_one_that_another_worker_writes_is_left_alone(chat: OneChat) -> None:
    answer = waiting(chat)
    chat.service.event_log.claim(record_of(answer, "another"))
    tidy(chat)
    assert status(chat, answer) == "pending"


def test_one_that_is_written_here_is_left_alone(chat: OneChat, upstream: FakeUpstream) -> None:
    upstream.script = by_hand
    answer = chat.ask("Still there?")
    upstream.call("Still there?")
    chat.service.event_log.discard([answer.id])
    tidy(chat)
    assert status(chat, answer) == "pending"


def test_those_of_another_chat_are_left_to_it(chat: OneChat) -> None:
    answer = waiting(chat, "other/user:me")
    tidy(chat)
    assert status(chat, answer) == "pending"
