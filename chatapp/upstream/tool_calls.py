"""Tool calls out of the fragments that servers stream, in whatever form; no I/O."""

import json
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import UpstreamInvalid
from .loose_values import encode_loosely, plain, text_from

MAX_TOOL_CALLS: Final = 128
MAX_TOOL_CALLS_CHARS: Final = 1 << 20
CALL_KEYS: Final = frozenset({"function", "id", "index", "type"})
FUNCTION_KEYS: Final = frozenset({"arguments", "name"})


@dataclass(slots=True)
class Fragment:
    """A tool call's name and arguments, or a part of them."""

    name: str | None = None
    arguments: str | None = None


@dataclass(slots=True)
class ToolCall:
    """A whole tool call."""

    index: int | None = None
    id: str | None = None
    function: Fragment | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    """What else the server says of it, and wants to hear again."""


class ToolCalls:
    """Joins the fragments of one answer's calls."""

    __slots__ = ("_chars", "_current", "fragments", "whole")

    def __init__(self) -> None:
        self.whole: dict[int, ToolCall] = {}
        """In the order of their beginning, by a number of ours."""
        self.fragments = 0
        """How many have come."""
        self._current: dict[int, int] = {}
        """The newest call under each of the server's indices."""
        self._chars = 0

    def take_delta(self, tool_calls: Any, function_call: Any) -> None:
        """Add what a delta has under these names; the second is the older form of one call.

        :raises UpstreamInvalid: this is more than can be meant.
        """
        given = tool_calls or ({"function": function_call} if function_call else [])
        given = given if isinstance(given, list) else [given]
        for place, fragment in enumerate(each for each in given if isinstance(each, dict)):
            self._take(fragment, place)

    def _take(self, fragment: dict[str, Any], place: int) -> None:
        told = fragment.get("function")
        function = told if isinstance(told, dict) else {}
        name, call_id = _word(function.get("name")), _word(fragment.get("id"))
        arguments = _arguments(function.get("arguments"))
        self.fragments += 1
        self._chars += len(name) + len(arguments)
        index = _index(fragment.get("index"), place)
        at = self._current.get(index, self._told_before(call_id, name, arguments))
        if at is None or _begins_another(self.whole[at], call_id, name, arguments):
            at = index if index not in self.whole else max(self.whole) + 1
            self._current[index] = at
        if self._chars > MAX_TOOL_CALLS_CHARS or len(self.whole) > MAX_TOOL_CALLS:
            raise UpstreamInvalid(
                "The model asks for more tool calls than can be meant. Ask again."
            )
        call = self.whole.setdefault(at, ToolCall(at, None, Fragment("", ""), {}))
        call.id = call.id or call_id or None
        _add(call, name, arguments)
        self._keep(call, fragment, function)

    def _told_before(self, call_id: str, name: str, arguments: str) -> int | None:
        """The call that this one is once more, under another index."""
        for at, call in self.whole.items():
            known = call.function
            if call_id and call.id == call_id and known and name in ("", known.name):
                whole = known.arguments or ""
                return at if whole == arguments or not _is_object(whole) else None
        return None

    def _keep(self, call: ToolCall, fragment: dict[str, Any], function: dict[str, Any]) -> None:
        """Note what only the server understands."""
        extra = _unknown(fragment, CALL_KEYS)
        if of_function := _unknown(function, FUNCTION_KEYS):
            extra["function"] = call.extra.get("function", {}) | of_function
        self._chars += len(encode_loosely(extra)) if extra else 0
        call.extra |= extra


def _begins_another(call: ToolCall, call_id: str, name: str, arguments: str) -> bool:
    """Whether a fragment belongs to a new call, though it has the index of this one."""
    if call_id and call.id:
        return call_id != call.id
    known = call.function
    if not (name and known and known.name):
        return False
    # A server that repeats the name in each fragment goes on with arguments that have begun.
    return _is_object(known.arguments or "") and arguments.lstrip()[:1] in ("{", "")


def _add(call: ToolCall, name: str, arguments: str) -> None:
    known = call.function
    if known is None:
        known = call.function = Fragment("", "")
    if name != known.name:
        known.name = (known.name or "") + name
    if arguments.strip() and (known.arguments or "").strip() in ("{}", "null"):
        known.arguments = ""  # It stood for "nothing yet".
    if arguments == known.arguments and _is_object(arguments):
        return  # It is told once more.
    if not (arguments == "{}" and known.arguments):
        known.arguments = (known.arguments or "") + arguments


def _index(given: Any, place: int) -> int:
    """The server's index; where it gives none, the place in its list."""
    try:
        return int(given)
    except (TypeError, ValueError, OverflowError):
        return place


def _word(given: Any) -> str:
    text = text_from(given)
    return "" if text.lower() in ("null", "none") else text


def _arguments(given: Any) -> str:
    return encode_loosely(given) if isinstance(given, dict | list) else text_from(given)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _unknown(given: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """What is left without these keys and without those that are null."""
    return {
        key: plain(value) for key, value in given.items() if key not in known and value is not None
    }
