"""A conversation as a tree, without a database."""

import pytest

from chatapp.answers.answer import Status
from chatapp.conversations.model import Content, Conversation

GOOD = ("done", "good")


def versions(*answers: tuple[str, str]) -> Conversation:
    """A question that was answered once and again, with each answer's status and text."""
    conversation = Conversation(id="c", owner="me", title=None)
    conversation.ask(Content("question"), "a0", None, None)
    for number, (status, content) in enumerate(answers):
        if number:
            conversation.ask_again("a0", f"a{number}", None)
        answer = conversation.messages[f"a{number}"]
        answer.status, answer.content = Status(status), Content(content)
        conversation.running = None
    conversation.ask(Content("next"), "last", None, None)
    return conversation


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([GOOD], ["good"]),
        ([GOOD, ("failed", "")], ["good"]),
        ([GOOD, ("failed", "half a")], ["good"]),
        ([GOOD, ("stopped", "")], ["good"]),
        ([GOOD, ("stopped", "half a")], ["half a"]),
        ([GOOD, ("done", " ")], ["good"]),
        ([GOOD, ("done", "better"), ("failed", "")], ["better"]),
        ([("done", " "), ("failed", "")], []),
        ([("failed", "half a")], ["half a"]),
        ([("stopped", "")], []),
        ([("failed", ""), GOOD], ["good"]),
    ],
)
def test_the_model_is_told_the_good_version_of_an_answer(
    answers: list[tuple[str, str]], told: list[str]
) -> None:
    turns = versions(*answers).turns_before("last")
    assert [turn.content.text for turn in turns] == ["question", *told, "next"]


def test_a_good_answer_to_another_question_is_none_to_this_one() -> None:
    conversation = versions(GOOD, ("failed", ""))
    conversation.messages["a1"].status = Status.DONE
    conversation.messages["a1"].content = Content("other")
    last = conversation.messages["last"]
    last.status = Status.FAILED
    conversation.running = None
    conversation.ask(Content("third"), "end", None, None)
    told = [turn.content.text for turn in conversation.turns_before("end")]
    assert told == ["question", "other", "next", "third"]
