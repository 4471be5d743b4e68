"""What the model is asked is the conversation as the site, the visitor and the hooks want it."""

from collections.abc import Callable

import pytest

from chatapp.answers.outcome import Status
from chatapp.conversations.model import Content, Conversation, Message
from chatapp.errors import ChatAppError, Refused, StopAnswer
from chatapp.generation.generator import prompt_for
from chatapp.generation.hooks import AnswerInfo, AnswerRequest, AnswerResult
from chatapp.settings import Settings
from tests.support.one_chat import OneChat
from tests.support.upstream import Call, FakeUpstream, poll

StartChat = Callable[..., OneChat]


def talk(**settings: object) -> Conversation:
    """Two questions, the second one's answer being written; the first answer has a sibling."""
    made = Conversation(id="c", owner="me", title=None, settings=settings)
    rows = [
        ("q1", None, "user", "First?"),
        ("a1", "q1", "assistant", "Not this one."),
        ("a2", "q1", "assistant", "One."),
        ("q2", "a2", "user", "Second?"),
        ("a3", "q2", "assistant", ""),
    ]
    for number, (name, parent, role, text) in enumerate(rows, 1):
        made.messages[name] = Message(name, "c", number, parent, role, Content(text))
    made.leaf = "a3"
    return made


def test_a_prompt_is_the_branch_up_to_the_answer() -> None:
    prompt = prompt_for(talk(), "a3", "m", {}, Settings())
    assert [(each["role"], each["content"]) for each in prompt.messages] == [
        ("user", "First?"),
        ("assistant", "One."),
        ("user", "Second?"),
    ]
    assert (prompt.model, prompt.options) == ("m", {})


def test_a_conversations_settings_go_with_it_and_the_requests_own_win() -> None:
    settings = {"system_prompt": "Be brief.", "temperature": 0, "top_p": 1, "model": "other"}
    prompt = prompt_for(talk(**settings), "a3", "m", {"temperature": 2}, Settings())
    assert prompt.messages[0] == {"role": "system", "content": "Be brief."}
    assert prompt.options == {"temperature": 2, "top_p": 1}
    assert prompt.model == "m"


def test_the_sites_system_prompt_is_sent_and_not_kept(
    start_chat: StartChat, upstream: FakeUpstream
) -> None:
    chat = start_chat(system_prompt="Be kind.")
    answer = chat.ask("Hi", options={"temperature": 0.5})
    chat.kept(answer)
    sent = upstream.calls[0].json
    assert [each["content"] for each in sent["messages"]] == ["Be kind.", "Hi"]
    assert (sent["temperature"], sent["model"]) == (0.5, "fake-model")
    kept = chat.store.conversation_of(answer.owner, answer.id)
    assert [each.content.text for each in kept.path()] == ["Hi", "Hello world."]


def test_hooks_change_what_is_asked_and_who_is_asked(
    start_chat: StartChat, upstream: FakeUpstream
) -> None:
    chat = start_chat()

    def before(request: AnswerRequest) -> None:
        assert request.owner == "me"
        request.model = "larger"
        request.options["seed"] = 7

    chat.hooks.before.append(before)
    assert chat.kept(chat.ask()).model == "larger"
    assert (upstream.calls[0].json["model"], upstream.calls[0].json["seed"]) == ("larger", 7)


def test_what_a_hook_refuses_is_not_asked(start_chat: StartChat, upstream: FakeUpstream) -> None:
    chat = start_chat()

    def before(_: AnswerRequest) -> None:
        raise Refused("Not today.")

    chat.hooks.before.append(before)
    with pytest.raises(Refused, match=r"Not today\."):
        chat.ask()
    assert (upstream.calls, chat.titles()) == ([], [])


def test_a_piece_that_a_hook_stops_is_shown_to_nobody(start_chat: StartChat) -> None:
    chat = start_chat()

    def check(_: AnswerInfo, text: str) -> None:
        if "world" in text:
            raise StopAnswer("Enough.")

    chat.hooks.piece.append(check)
    kept = chat.kept(chat.ask())
    assert kept.content.text == "Hello"


@pytest.mark.parametrize("fails", [False, True])
def test_the_hooks_for_its_end_get_what_became_of_it(
    start_chat: StartChat, upstream: FakeUpstream, fails: bool
) -> None:
    def cut(call: Call) -> None:
        call.head()
        call.text("Half")
        call.cut()

    if fails:
        upstream.script = cut
    chat = start_chat()
    after: list[AnswerResult] = []
    failed: list[AnswerResult] = []
    chat.hooks.after.append(after.append)
    chat.hooks.failed.append(failed.append)
    answer = chat.ask()
    poll(lambda: after or failed)
    (result,) = failed if fails else after
    assert (len(after), len(failed)) == (not fails, fails)
    assert (result.answer_id, result.owner, result.status) == (answer.id, "me", answer.status)
    assert (result.text, result.conversation_id) == (answer.log.text(), answer.conversation_id)
    assert (result.error is not None) is fails is (answer.status is Status.FAILED)


def test_an_answer_with_tools_is_not_continued(start_chat: StartChat) -> None:
    """What its tools have done already, nobody would know."""
    chat = start_chat()

    def now() -> str:
        """Tell the time."""
        return "noon"

    chat.tools.register(now)
    generator = chat.service.starter.generator
    answer = chat.service.answers.create("chat/user:me")
    with pytest.raises(ChatAppError):
        generator.resume(answer, prompt_for(talk(), "a3", "m", {}, Settings()))
    chat.service.answers.discard(answer, ChatAppError("over"))
