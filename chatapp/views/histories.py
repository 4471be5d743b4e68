"""Validates the histories that clients send: what is not known here does not go upstream."""

from typing import Any, Final

from ..errors import InvalidRequest, NotAllowed, UnknownField, UnsupportedContent
from ..generation.history import SYSTEM
from ..settings import Settings
from .text_fields import check_text

ROLES: Final = ("assistant", "developer", "system", "tool", "user")
MESSAGE_FIELDS: Final = frozenset({"role", "content", "name", "tool_calls", "tool_call_id"})
HANDED_BACK: Final = frozenset(
    {"annotations", "audio", "function_call", "reasoning", "reasoning_content", "reasoning_details"}
    | {"refusal", "thinking_blocks"}
)
"""What an assistant's message may have when a client returns it as it came. None of it goes on."""
PART_FIELDS: Final = frozenset({"type", "text"})
CALL_FIELDS: Final = frozenset({"id", "type", "function"})
FUNCTION_FIELDS: Final = frozenset({"name", "arguments"})
MAX_NAME_CHARS: Final = 256
"""Of names and ids."""
MAX_CALLS: Final = 128
"""Of one message."""
PARAM: Final = "messages"


def checked_history(given: Any, settings: Settings) -> list[dict[str, Any]]:
    """The messages as they may go upstream; a content of text parts is one text there.

    :raises InvalidRequest: a message is not of the known form, or too large.
    :raises NotAllowed: the settings forbid histories, or a role.
    """
    if not settings.client_histories:
        raise NotAllowed("This site takes no histories. Send message instead.", param=PARAM)
    if not isinstance(given, list) or not given:
        raise InvalidRequest("messages must be a non-empty list.", param=PARAM)
    if len(given) > settings.history_max_messages:
        raise InvalidRequest(
            f"There are {len(given)} messages; {settings.history_max_messages} are allowed.",
            param=PARAM,
        )
    return [_checked(f"messages[{i}]", each, settings) for i, each in enumerate(given)]


def _checked(place: str, message: Any, settings: Settings) -> dict[str, Any]:
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(role, str) or role not in ROLES:
        raise InvalidRequest(
            f"{place} must have one of these roles: {', '.join(ROLES)}.", param=PARAM
        )
    if role in SYSTEM and not settings.client_system:
        raise NotAllowed(f"{place}: this site takes no {role} messages.", param=PARAM)
    if role == "assistant":
        message = _without_extras(message)
    _check_fields(place, message, MESSAGE_FIELDS)
    checked: dict[str, Any] = {"role": role, "content": None}
    if message.get("content") is not None or "tool_calls" not in message:
        checked["content"] = _text_of(place, message.get("content"))
    room = settings.message_max_chars
    check_text(PARAM, checked["content"] or "", room)
    if "tool_calls" in message:
        checked["tool_calls"] = _calls(place, message["tool_calls"], room)
    for name in ("name", "tool_call_id"):
        if message.get(name) is not None:
            checked[name] = _word(f"{place}.{name}", message[name])
    return checked


def _without_extras(message: dict[str, Any]) -> dict[str, Any]:
    """An answer that a client returns, with no more than can be sent on."""
    kept = {name: value for name, value in message.items() if name not in HANDED_BACK}
    if kept.get("content") is None and isinstance(message.get("refusal"), str):
        kept["content"] = message["refusal"]
    return kept


def _text_of(place: str, content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"{place} must have content.", param=PARAM)
    return "\n".join(_part(f"{place}.content[{i}]", each) for i, each in enumerate(content))


def _part(place: str, part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind != "text":
        raise UnsupportedContent(
            f"{place} is of a type that this site does not take. Allowed: text.", param=PARAM
        )
    text = part.get("text") if kind else None
    if not isinstance(text, str):
        raise InvalidRequest(f"{place} must be a text part.", param=PARAM)
    _check_fields(place, part, PART_FIELDS)
    return text


def _calls(place: str, calls: Any, room: int) -> list[dict[str, Any]]:
    place = f"{place}.tool_calls"
    if not isinstance(calls, list) or not 0 < len(calls) <= MAX_CALLS:
        raise InvalidRequest(f"{place} must be a list of 1 to {MAX_CALLS}.", param=PARAM)
    checked = [_call(f"{place}[{index}]", call) for index, call in enumerate(calls)]
    check_text(PARAM, "".join(call["function"]["arguments"] for call in checked), room)
    return checked


def _call(place: str, call: Any) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or call.get("type", "function") != "function":
        raise InvalidRequest(f"{place} is no call of a function.", param=PARAM)
    arguments = function.get("arguments", "")
    if not isinstance(arguments, str):
        raise InvalidRequest(f"{place}.function.arguments must be a string.", param=PARAM)
    _check_fields(place, call, CALL_FIELDS)
    _check_fields(f"{place}.function", function, FUNCTION_FIELDS)
    name = _word(f"{place}.function.name", function.get("name"))
    return {
        "id": _word(f"{place}.id", call.get("id")),
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def _word(place: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{place} must be a string.", param=PARAM)
    check_text(PARAM, value, MAX_NAME_CHARS)
    return value


def _check_fields(place: str, given: dict[str, Any], known: frozenset[str]) -> None:
    if given.keys() - known:
        raise UnknownField(f"{place} has an unknown field.", param=PARAM)
