"""What of a conversation goes upstream, and in which form."""

import copy
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.generation.history import cut, tokens, well_formed


def message(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


ROLES = st.sampled_from(["system", "developer", "user", "user", "assistant", "assistant", "tool"])
HISTORIES = st.lists(st.builds(message, ROLES, st.text(max_size=40)), max_size=12)


def test_the_oldest_go_first_and_in_whole_turns() -> None:
    history = [
        message("system", "s" * 4),
        message("user", "a" * 40),
        message("assistant", "b" * 40),
        message("user", "c" * 40),
        message("assistant", "d" * 40),
        message("user", "e" * 40),
    ]
    assert cut(history, 51) == history
    for budget in (50, 41, 31):
        assert cut(history, budget) == [history[0], *history[3:]]
    for budget in (30, 21, 0):
        assert cut(history, budget) == [history[0], history[5]]


def test_a_token_is_about_four_bytes_and_a_message_is_one_at_least() -> None:
    assert tokens(message("user", "")) == tokens(message("assistant", None)) == 1
    assert tokens(message("user", "a" * 5)) == 2
    assert tokens(message("user", "苹果")) == 2
    parts = [{"type": "text", "text": "a" * 8}, {"type": "image_url", "image_url": {"url": "x"}}]
    assert tokens(message("user", parts)) == 2


@given(HISTORIES, st.integers(0, 100))
def test_whatever_the_history_what_is_left_makes_sense(
    history: list[dict[str, Any]], budget: int
) -> None:
    left = cut(history, budget)
    places = [next(i for i, m in enumerate(history) if m is each) for each in left]
    assert places == sorted(set(places))
    if sum(map(tokens, history)) <= budget:
        assert left == history
        return
    users = [i for i, each in enumerate(history) if each["role"] == "user"]
    needed = {i for i, each in enumerate(history) if each["role"] in ("system", "developer")}
    needed |= set(range(users[-1] if users else len(history) - 1, len(history)))
    assert needed <= set(places)
    assert places == sorted(needed) or sum(map(tokens, left)) <= budget
    talk = [i for i in places if history[i]["role"] not in ("system", "developer")]
    if users:
        assert history[talk[0]]["role"] == "user"
    if talk:  # And nothing in between is missing.
        assert [i for i in places if i >= talk[0]] == list(range(talk[0], len(history)))


@given(HISTORIES, st.integers(0, 100))
def test_a_larger_budget_never_leaves_less(history: list[dict[str, Any]], budget: int) -> None:
    assert len(cut(history, budget)) <= len(cut(history, budget + 1))


def called(*ids: str, content: str | None = None) -> dict[str, Any]:
    function = {"name": "look", "arguments": "{}"}
    calls = [{"id": each, "type": "function", "function": function} for each in ids]
    return message("assistant", content) | {"tool_calls": calls}


def result(call_id: str, content: str = "found") -> dict[str, Any]:
    return message("tool", content) | {"tool_call_id": call_id}


USER, ANSWER = message("user", "a"), message("assistant", "b")
IMAGE = [{"type": "image_url", "image_url": {"url": "data:,"}}]


@pytest.mark.parametrize(
    ("history", "sent"),
    [
        ([USER, ANSWER, USER], [USER, ANSWER, USER]),
        ([USER, message("user", "c")], [message("user", "a\n\nc")]),
        ([USER | {"name": "x"}, USER | {"name": "y"}], [message("user", "a\n\na")]),
        ([USER, message("assistant", " \n"), message("user", "c")], [message("user", "a\n\nc")]),
        ([USER, message("assistant", None), USER], [message("user", "a\n\na")]),
        ([USER, message("assistant", []), USER], [message("user", "a\n\na")]),
        ([USER, ANSWER, message("assistant", "c")], [USER, message("assistant", "b\n\nc")]),
        ([ANSWER, USER], [USER]),
        (
            [message("system", "x"), message("developer", "y"), USER],
            [message("system", "x\n\ny"), USER],
        ),
        (
            [USER, ANSWER, message("system", "x"), message("user", "c")],
            [message("system", "x"), USER, ANSWER, message("user", "c")],
        ),
        ([message("system", "x"), ANSWER, USER], [message("system", "x"), USER]),
        ([message("system", ""), USER], [USER]),
        ([message("user", IMAGE)], [message("user", IMAGE)]),
        (
            [message("user", IMAGE), message("user", "c")],
            [message("user", [*IMAGE, {"type": "text", "text": "c"}])],
        ),
        (
            [USER, called("1", "2"), result("2"), result("1"), ANSWER],
            [USER, called("1", "2"), result("1"), result("2"), ANSWER],
        ),
        (
            [USER, called("1"), message("user", "c"), result("1")],
            [USER, called("1"), result("1"), message("user", "c")],
        ),
        ([USER, called("1"), message("user", "c")], [message("user", "a\n\nc")]),
        ([USER, called("1", content="b"), USER], [USER, ANSWER, USER]),
        ([USER, called("1", "2"), result("2"), USER], [USER, called("2"), result("2"), USER]),
        ([USER, result("1"), message("user", "c")], [message("user", "a\n\nc")]),
        ([called("1"), result("1"), USER], [USER]),
        (
            [USER, called("1"), result("1"), called("1"), result("1", "again")],
            [USER, called("1"), result("1"), called("1"), result("1", "again")],
        ),
        (
            [USER, called("1"), result("1", ""), ANSWER | {"prefix": True}],
            [USER, called("1"), result("1", ""), ANSWER | {"prefix": True}],
        ),
        ([message("user", " ")], [message("user", " ")]),
        ([message("assistant", "b")], [message("assistant", "b")]),
    ],
)  # fmt: skip
def test_what_goes_upstream_is_well_formed(
    history: list[dict[str, Any]], sent: list[dict[str, Any]]
) -> None:
    before = copy.deepcopy(history)
    assert well_formed(history) == sent
    assert history == before


CONTENTS = st.one_of(st.none(), st.text("ab \n", max_size=4), st.just(IMAGE), st.just([]))
CALLS = st.lists(st.sampled_from("123"), max_size=2)
WILD = st.lists(
    st.one_of(
        st.builds(message, ROLES, CONTENTS),
        st.builds(lambda ids: called(*ids), CALLS),
        st.builds(result, st.sampled_from("123")),
    ),
    max_size=12,
)


@given(WILD)
def test_whatever_is_sent_strict_servers_take_it(history: list[dict[str, Any]]) -> None:
    sent = well_formed(history)
    assert well_formed(sent) == sent
    roles = [each["role"] for each in sent]
    if not any(each["role"] == "user" and str(each["content"] or "").strip() for each in sent):
        return  # Nothing to ask: it is left as it was.
    assert not set(roles[1:]) & {"system", "developer"}
    talk = sent[roles[0] in ("system", "developer") :]
    assert talk[0]["role"] == "user"
    for one, other in pairwise(talk):
        assert one["role"] != other["role"] or one["role"] == "tool"
    wanted: list[str] = []
    for each in talk:
        if each["role"] == "tool":
            assert each["tool_call_id"] == wanted.pop(0)
        else:
            assert not wanted
            assert each["content"] or each["tool_calls"]
            wanted = [call["id"] for call in each.get("tool_calls", ())]
    assert not wanted


@given(WILD)
def test_no_question_is_lost(history: list[dict[str, Any]]) -> None:
    def words(messages: list[dict[str, Any]]) -> list[str]:
        contents = [each["content"] for each in messages if each["role"] == "user"]
        return " ".join(str(each) for each in contents if each and each != IMAGE).split()

    texts = [each for each in history if isinstance(each["content"], str)]
    assert words(well_formed(texts)) == words(texts)
