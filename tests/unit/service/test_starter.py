"""A question begins one answer for its key, and one that is refused leaves nothing behind."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from chatapp.answers.answer import Answer
from chatapp.conversations.model import Content
from chatapp.errors import (
    ChatAppError,
    InvalidRequest,
    ShuttingDown,
    StorageUnavailable,
    TooManyRunning,
)
from chatapp.identity.payers import Payer
from chatapp.service.starter import ChatRequest
from tests.support.event_logs import together
from tests.support.one_chat import ME, OneChat
from tests.support.upstream import Call, FakeUpstream, by_hand, poll

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


def times_out(method: Callable[..., Any]) -> Callable[..., Any]:
    """A call of a storage that has taken effect, of which nobody learns."""

    def call(*args: Any, **options: Any) -> Any:
        method(*args, **options)
        raise StorageUnavailable("The storage is away.")

    return call


def test_who_met_a_dead_storage_does_not_wait_for_it_again(
    start_chat: StartChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question is taken back when the storage is there again."""
    chat = start_chat()
    first = chat.ask("One")
    chat.kept(first)
    store, there = chat.service.store, threading.Event()
    withdraw = store.withdraw

    def frozen(answer_id: str) -> str | None:
        assert there.wait(60)
        return withdraw(answer_id)

    monkeypatch.setattr(store, "withdraw", frozen)
    with monkeypatch.context() as outage:
        outage.setattr(store, "ask", times_out(store.ask))
        with pytest.raises(StorageUnavailable):
            chat.ask("Two", conversation_id=first.conversation_id)
    there.set()
    poll(lambda: not chat.service.retry_queue)
    again = chat.ask("Two", conversation_id=first.conversation_id)
    chat.kept(again)
    messages = chat.store.conversation_of(ME, again.id).messages
    assert [each.role for each in messages.values()] == ["user", "assistant"] * 2


def test_a_key_that_was_claimed_as_the_event_log_went_away_is_free_afterwards(
    start_chat: StartChat, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = start_chat()
    log = chat.service.event_log
    with monkeypatch.context() as outage:
        outage.setattr(log, "claim", times_out(log.claim))
        with pytest.raises(StorageUnavailable):
            chat.ask(key="k")
    poll(lambda: not chat.service.retry_queue)
    assert chat.kept(chat.ask(key="k")).status == "done"
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("kind", ["message", "messages"])
def test_clients_without_a_cookie_share_the_slots_of_their_address(
    start_chat: StartChat, upstream: FakeUpstream, kind: str
) -> None:
    """Each of their requests has an owner of its own."""
    upstream.script = by_hand
    chat = start_chat(max_running_per_owner=2, start_wait=0.1)
    said: Any = Content("Hi") if kind == "message" else [{"role": "user", "content": "Hi"}]

    def ask(owner: str, address: str) -> Answer:
        asked = ChatRequest(**{kind: said})
        payer = Payer(owner, address, is_new=True)
        return chat.service.starter.start(owner, asked, payer=payer)

    first = ask("chat/visitor:1", "192.0.2.1")
    ask("chat/visitor:2", "192.0.2.1")
    with pytest.raises(TooManyRunning):
        ask("chat/visitor:3", "192.0.2.1")
    ask("chat/visitor:4", "192.0.2.2")
    chat.service.stop(first)
    poll(lambda: not first.running)
    ask("chat/visitor:5", "192.0.2.1")
