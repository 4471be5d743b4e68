"""What of a long conversation goes upstream."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chatapp.generation.history import cut, tokens


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
