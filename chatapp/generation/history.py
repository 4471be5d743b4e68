"""Brings a history into the form that strict servers accept, within a token budget; no I/O."""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ..answers.text.tokens import estimated_tokens, texts_of

Message = dict[str, Any]

SYSTEM: Final = ("system", "developer")
PARAGRAPH: Final = "\n\n"


def tokens(message: Message) -> int:
    """The estimated tokens of a message; at least 1."""
    return max(estimated_tokens(texts_of(message)), 1)


def cut(history: Sequence[Message], budget_tokens: int) -> list[Message]:
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


def well_formed(history: Sequence[Message]) -> list[Message]:
    """The messages as the templates of Mistral, Gemma and others demand them.

    One system message, first; then a user's message; neighbours of one role joined; the results of
    tools right behind their calls, none without the other; no blank message. What would be left
    empty by that is returned as it is. The messages given are not changed.
    """
    system = [each for each in history if each.get("role") in SYSTEM and not _is_blank(each)]
    talk = _joined(_with_results([each for each in history if each.get("role") not in SYSTEM]))
    first = next((i for i, each in enumerate(talk) if each.get("role") == "user"), 0)
    return _one(system) + talk[first:] or list(history)


def _one(system: list[Message]) -> list[Message]:
    """The system messages as one, which has the role of the first."""
    if not system:
        return []
    whole = system[0]
    for message in system[1:]:
        whole = _join(whole, message)
    return [whole | {"role": system[0]["role"]}]


def _with_results(talk: list[Message]) -> Iterator[Message]:
    """The messages that are not blank, each call of a tool followed by its result."""
    results: dict[str, deque[Message]] = defaultdict(deque)
    for message in talk:
        if message.get("role") == "tool":
            results[str(message.get("tool_call_id"))].append(message)
    for message in talk:
        if message.get("role") == "tool":
            continue
        calls, answered = [], []
        for call in _calls(message):
            if waiting := results[str(call.get("id"))]:
                calls.append(call)
                answered.append(waiting.popleft())
        if "tool_calls" in message:
            message = {name: value for name, value in message.items() if name != "tool_calls"}
            message |= {"tool_calls": calls} if calls else {}
        if not _is_blank(message):
            yield message
            yield from answered


def _joined(talk: Iterator[Message]) -> list[Message]:
    joined: list[Message] = []
    for message in talk:
        role = message.get("role")
        if joined and joined[-1].get("role") == role and role in ("user", "assistant"):
            joined[-1] = _join(joined[-1], message)
        else:
            joined.append(message)
    return joined


def _join(one: Message, other: Message) -> Message:
    """Two messages as one, with the fields of both, and a speaker's name if it is the same."""
    contents = one.get("content"), other.get("content")
    joined: Any
    if all(isinstance(each, str) for each in contents):
        joined = PARAGRAPH.join(contents)  # type: ignore[arg-type]
    else:
        joined = [part for content in contents for part in _parts(content)] or None
    whole = one | other | {"content": joined}
    if one.get("name") != other.get("name"):
        whole.pop("name", None)
    return whole


def _parts(content: Any) -> list[Any]:
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []


def _calls(message: Message) -> list[Message]:
    calls = message.get("tool_calls")
    return [each for each in calls if isinstance(each, dict)] if isinstance(calls, list) else []


def _is_blank(message: Message) -> bool:
    """Whether a message has neither content nor something in its place, e.g. calls of tools."""
    if any(message.get(name) for name in ("tool_calls", "function_call", "audio", "refusal")):
        return False
    content = message.get("content")
    return all(
        isinstance(part, dict)
        and part.get("type") == "text"
        and not str(part.get("text") or "").strip()
        for part in _parts(content)
    )
