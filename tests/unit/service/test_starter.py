"""A question begins one answer for its key, and one that is refused leaves nothing behind."""

from collections.abc import Callable

import pytest

from chatapp.errors import ChatAppError, InvalidRequest, ShuttingDown
from tests.support.event_logs import together
from tests.support.one_chat import ME, OneChat
from tests.support.upstream import Call, FakeUpstream

StartChat = Callable[..., OneChat]


def refuses(call: Call) -> None:
    call.refuse(400, "This is not for me.")


def test_a_question_begins_one_conversation_and_its_answer_is_kept(start_chat: StartChat) -> None:
    chat = start_chat()
    answer = chat.ask("What is the capital of France?")
    kept = chat.kept(answer)
    assert (kept.status, kept.content.text) == ("done", "Hello world.")
    assert (kept.conversation_id, kept.model) == (answer.conversation_id, "fake-model")
    assert chat.titles() == ["What is the capital of France?"]


def test_all_who_send_one_key_get_one_answer(start_chat: StartChat, upstream: FakeUpstream) -> None:
    chat = start_chat()
    chat.store.page(ME, None, 1)  # The database is there before they race.
    answers = together(8, lambda _: chat.ask(key="k"))
    assert len({answer.id for answer in answers}) == 1
    chat.kept(answers[0])
    assert chat.ask(key="k").id == answers[0].id, "also when it has ended"
    assert (len(upstream.calls), len(chat.titles())) == (1, 1)


def test_a_refusal_leaves_no_conversation_and_is_the_same_for_all_with_the_key(
    start_chat: StartChat, upstream: FakeUpstream
) -> None:
    upstream.script = refuses
    chat = start_chat()
    errors: list[ChatAppError] = []
    for key in ("k", None):
        with pytest.raises(ChatAppError) as refused:
            chat.ask(key=key)
        errors.append(refused.value)
    assert errors[0].fields() == errors[1].fields()
    assert (chat.titles(), chat.service.answers.running) == ([], 0)


def test_a_refused_key_can_be_used_again(start_chat: StartChat, upstream: FakeUpstream) -> None:
    speaks, upstream.script = upstream.script, refuses
    chat = start_chat()
    with pytest.raises(ChatAppError):
        chat.ask(key="k")
    upstream.script = speaks
    assert chat.kept(chat.ask(key="k")).status == "done"


def test_a_further_question_that_is_refused_leaves_the_conversation_as_it_was(
    start_chat: StartChat, upstream: FakeUpstream
) -> None:
    chat = start_chat()
    first = chat.ask("One")
    chat.kept(first)
    before = chat.store.conversation_of(ME, first.id)
    upstream.script = refuses
    with pytest.raises(ChatAppError):
        chat.ask("Two", conversation_id=first.conversation_id)
    after = chat.store.conversation_of(ME, first.id)
    assert (after.leaf, after.running, after.messages) == (before.leaf, None, before.messages)


def test_a_model_that_is_not_offered_is_not_asked(
    start_chat: StartChat, upstream: FakeUpstream
) -> None:
    chat = start_chat()
    with pytest.raises(InvalidRequest) as refused:
        chat.ask(model="another")
    assert refused.value.param == "model"
    assert (upstream.calls, chat.titles()) == ([], [])


def test_a_worker_that_goes_down_begins_nothing(
    start_chat: StartChat, upstream: FakeUpstream
) -> None:
    chat = start_chat()
    chat.service.drain()
    with pytest.raises(ShuttingDown):
        chat.ask()
    assert (upstream.calls, chat.titles()) == ([], [])
