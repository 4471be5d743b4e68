"""Tool calls out of the fragments that servers stream, in whatever form; no I/O."""

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from ..errors import UpstreamInvalid
from .loose_values import encode_loosely, plain, text_from

MAX_TOOL_CALLS: Final = 128
MAX_TOOL_CALLS_CHARS: Final = 1 << 20
MAX_PARSED_CHARS: Final = 16 << 20
MAX_NAME_CHARS: Final = 1024
FRAGMENT_CHARS: Final = 8
"""What a fragment counts for beside its text: one that says nothing takes time, too."""
MAX_INDEX: Final = 10**9
NOTHING: Final = ("{}", "null")
"""Arguments that stand for "nothing yet"."""
NOTHING_CHARS: Final = 64
CALL_KEYS: Final = frozenset({"function", "id", "index", "type"})
FUNCTION_KEYS: Final = frozenset({"arguments", "name"})


class Fragment:
    """A tool call's name and arguments, which grow by pieces. A piece copies no other."""

    __slots__ = ("_last", "_pieces", "name", "size")

    def __init__(self, name: str | None = "", arguments: str | None = "") -> None:
        self.name = name or ""
        self.size = 0
        """Characters of the arguments."""
        self._pieces: list[str] = []
        self._last = ""
        """The last piece that is not blank."""
        self.add(arguments or "")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fragment) and (self.name, self.arguments) == (
            other.name,
            other.arguments,
        )

    __hash__ = None  # type: ignore[assignment] # it changes

    @property
    def arguments(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    @property
    def may_be_whole(self) -> bool:
        """Whether the arguments end as an object does."""
        return self._last.endswith("}")

    def add(self, arguments: str) -> None:
        self._pieces.append(arguments)
        self.size += len(arguments)
        self._last = arguments.rstrip() or self._last

    def clear(self) -> None:
        self._pieces, self.size, self._last = [], 0, ""


@dataclass(slots=True)
class ToolCall:
    """A whole tool call."""

    index: int | None = None
    id: str | None = None
    function: Fragment = field(default_factory=Fragment)
    extra: dict[str, Any] = field(default_factory=dict)
    """What else the server says of it, and wants to hear again."""


class ToolCalls:
    """Joins the fragments of one answer's calls."""

    __slots__ = ("_chars", "_current", "_parsed", "fragments", "whole")

    def __init__(self) -> None:
        self.whole: dict[int, ToolCall] = {}
        """In the order of their beginning, by a number of ours."""
        self.fragments = 0
        """How many have come."""
        self._current: dict[int, int] = {}
        """The newest call under each of the server's indices."""
        self._chars = 0
        self._parsed = 0
        """Characters that were parsed to see whether a call is whole."""

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
        self._charge(FRAGMENT_CHARS + len(name) + len(arguments))
        index = _index(fragment.get("index"), place)
        at = self._current.get(index)
        if at is None:
            at = self._told_before(call_id, name, arguments)
        if at is None or self._begins_another(self.whole[at], call_id, name, arguments):
            at = index if index not in self.whole else max(self.whole) + 1
            self._current[index] = at
        call = self.whole.setdefault(at, ToolCall(at))
        if len(self.whole) > MAX_TOOL_CALLS or len(self._current) > 2 * MAX_TOOL_CALLS:
            raise _too_much()
        call.id = call.id or call_id or None
        self._add(call.function, name, arguments)
        self._keep(call, fragment, function)

    def _charge(self, chars: int) -> None:
        self._chars += chars
        if self._chars > MAX_TOOL_CALLS_CHARS:
            raise _too_much()

    def _told_before(self, call_id: str, name: str, arguments: str) -> int | None:
        """The call that this one is once more, under another index."""
        for at, call in self.whole.items():
            if call_id and call.id == call_id and name in ("", call.function.name):
                whole = call.function.arguments
                return at if whole == arguments or not self._is_whole(call.function) else None
        return None

    def _begins_another(self, call: ToolCall, call_id: str, name: str, arguments: str) -> bool:
        """Whether a fragment belongs to a new call, though it has the index of this one."""
        if call_id and call.id:
            return call_id != call.id
        if not (name and call.function.name) or arguments.lstrip()[:1] not in ("{", ""):
            return False
        # A server that repeats the name in each fragment goes on with arguments that have begun.
        return self._is_whole(call.function)

    def _is_whole(self, function: Fragment) -> bool:
        """Whether the arguments are a whole object; not parsed where they don't look so."""
        if not function.may_be_whole:
            return False
        self._parsed += function.size
        if self._parsed > MAX_PARSED_CHARS:
            raise _too_much()
        return _is_object(function.arguments)

    def _add(self, known: Fragment, name: str, arguments: str) -> None:
        if name != known.name:
            known.name += name
            if len(known.name) > MAX_NAME_CHARS:
                raise _too_much()
        stands_for_nothing = known.size <= NOTHING_CHARS and known.arguments.strip() in NOTHING
        if stands_for_nothing and arguments.strip():
            known.clear()
        if len(arguments) == known.size and arguments == known.arguments and _is_object(arguments):
            return  # It is told once more.
        if arguments and not (arguments == "{}" and known.size):
            known.add(arguments)

    def _keep(self, call: ToolCall, fragment: dict[str, Any], function: dict[str, Any]) -> None:
        """Note what only the server understands."""
        extra = _unknown(fragment, CALL_KEYS)
        of_function = _unknown(function, FUNCTION_KEYS)
        if extra or of_function:
            self._charge(len(encode_loosely([extra, of_function])))
        call.extra |= extra
        if of_function:
            call.extra.setdefault("function", {}).update(of_function)


def _too_much() -> UpstreamInvalid:
    return UpstreamInvalid("The model asks for more tool calls than can be meant. Ask again.")


def _index(given: Any, place: int) -> int:
    """The server's index; where it gives none, the place in its list."""
    if isinstance(given, float | Decimal) and 0 <= given < MAX_INDEX:
        return int(given)
    text = text_from(given)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else place


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
