"""What an answer has become is kept before anybody reads its end."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from chatapp.conversations.model import Content
from chatapp.conversations.tables import calls
from chatapp.replication import replicator
from chatapp.service.starter import ChatRequest
from tests.support.one_chat import ME, OneChat
from tests.support.replication import begun
from tests.support.upstream import FakeUpstream, by_hand, poll

StartChat = Callable[..., OneChat]


@pytest.fixture
def chat(start_chat: StartChat) -> OneChat:
    return start_chat()


def test_who_sees_the_end_finds_the_whole_message(chat: OneChat) -> None:
    answer = chat.ask()
    kept = []

    class Reader:
        """Looks as soon as the last event is there."""

        def wake(self) -> None:
            if not answer.running and not kept:
                kept.append(chat.store.answer(ME, answer.id))

        notify_data = wake

    answer.readers.add(Reader())
    poll(lambda: not answer.running)
    whole = kept[0] if kept else chat.store.answer(ME, answer.id)
    assert (whole.status, whole.transcript) == ("done", answer.log.transcript())
    assert whole.outcome == answer.outcome


def test_an_answer_outside_of_conversations_is_in_the_ledger_alone(
    chat: OneChat,
) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    answer = chat.service.starter.start(ME, ChatRequest(messages=messages))
    poll(lambda: not answer.running)
    chat.service.ledger_writer.close(10)
    database = chat.store.ledger._database
    rows = database.run(lambda c: c.execute(sa.select(calls)).all(), read_only=True)
    assert [(each.owner, each.outcome, each.total_tokens) for each in rows] == [(ME, "done", 18)]
    assert chat.titles() == []


def test_an_answer_that_is_another_workers_by_now_is_not_written(
    chat: OneChat, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicator, "CONFIRMED_FOR", -1.0)
    upstream.script = by_hand
    answer = chat.ask("Mine?")
    call = upstream.call("Mine?")
    call.text("no longer")
    log = chat.service.event_log
    poll(lambda: log.find(answer.id) is not None)
    assert log.take(answer.id, answer.epoch, "heir")
    call.finish()
    poll(lambda: answer.moved)
    assert chat.store.answer(ME, answer.id).status == "pending"


def test_what_the_event_log_forgot_is_wanted_as_long_as_its_conversation_is_there(
    chat: OneChat,
) -> None:
    recorder = chat.service.replicator._wanted
    answer = begun()
    answer.owner = ME
    asked = chat.store.ask(ME, None, Content("Hi"), answer.id, None)
    answer.conversation_id = asked.id
    assert recorder(answer)
    chat.store.delete(ME, asked.id)
    assert not recorder(answer)
    answer.conversation_id = None
    assert recorder(answer), "it never had one"
