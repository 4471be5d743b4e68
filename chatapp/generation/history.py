"""Cuts a history to the token budget; no I/O."""

from collections.abc import Sequence
from typing import Any, Final

from ..answers.text.tokens import estimated_tokens, texts_of

SYSTEM: Final = ("system", "developer")


def tokens(message: dict[str, Any]) -> int:
    """The estimated tokens of a message; at least 1."""
    return max(estimated_tokens(texts_of(message)), 1)


def cut(history: Sequence[dict[str, Any]], budget_tokens: int) -> list[dict[str, Any]]:
    """The messages in OpenAI's form that fit; the oldest are left out first.

    The system's messages, and everything from the user's last one on, stay whatever they cost.
    What stays of the others has no gaps, and begins with a user's message.
    """
    costs = [tokens(message) for message in history]
    if sum(costs) <= budget_tokens:
        return list(history)
    roles = [message.get("role") for message in history]
    last = max((i for i, role in enumerate(roles) if role == "user"), default=len(roles) - 1)
    left = budget_tokens - sum(costs[last:])
    left -= sum(cost for cost, role in zip(costs[:last], roles, strict=False) if role in SYSTEM)
    first = last
    for index in reversed(range(last)):
        if roles[index] in SYSTEM:
            continue
        left -= costs[index]
        if left < 0:
            break
        if roles[index] == "user":
            first = index
    kept = [message for message in history[:first] if message.get("role") in SYSTEM]
    return kept + list(history[first:])
