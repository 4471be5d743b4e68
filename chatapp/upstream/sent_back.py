"""What a server wants to hear again of its message when tools have run; no I/O.

DeepSeek asks for its `reasoning_content`, Gemini for `extra_content`, OpenRouter for
`reasoning_details`, LiteLLM before Claude for `thinking_blocks`. They refuse the next request
without; none of them is understood here.
"""

from typing import Any, Final

from ..errors import UpstreamInvalid

MAX_CHARS: Final = 4 << 20
"""Of all that is kept of one message."""
JOINED: Final = frozenset({"signature", "summary", "text", "thinking"})
"""Keys of a block whose texts come in pieces."""


class SentBack:
    """Joins the fields of a message's deltas, as they came. A piece copies no other."""

    __slots__ = ("_chars", "_fields", "_reasoning")

    def __init__(self) -> None:
        self._reasoning: dict[str, list[str]] = {}
        self._fields: dict[str, Any] = {}
        self._chars = 0

    def add_reasoning(self, key: str, text: str) -> None:
        """More reasoning, under this key.

        :raises UpstreamInvalid: it is more than can be meant.
        """
        self._count(text)
        self._reasoning.setdefault(key, []).append(text)

    def add(self, fields: dict[str, Any]) -> None:
        """Fields of a delta that are nothing to us.

        :raises UpstreamInvalid: as `add_reasoning`.
        """
        self._count(fields)
        for key, value in fields.items():
            self._fields[key] = _joined(self._fields.get(key), value)

    def fields(self) -> dict[str, Any]:
        """The message's, whole."""
        reasoning = {key: "".join(texts) for key, texts in self._reasoning.items()}
        return reasoning | {key: _whole(value) for key, value in self._fields.items()}

    def _count(self, what: Any) -> None:
        self._chars += len(str(what))
        if self._chars > MAX_CHARS:
            raise UpstreamInvalid(
                "The model's server sent too much at once. Try again.",
                seen=f"more than {MAX_CHARS} characters to send back",
            )


class _Text:
    """A text in pieces."""

    __slots__ = ("pieces", "size")

    def __init__(self, text: str) -> None:
        self.pieces = [text]
        self.size = len(text)

    def add(self, text: str) -> None:
        self.pieces.append(text)
        self.size += len(text)

    def is_text(self, text: str) -> bool:
        return self.size == len(text) and "".join(self.pieces) == text


def _whole(value: Any) -> Any:
    """What was joined, as JSON has it."""
    if isinstance(value, _Text):
        return "".join(value.pieces)
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list) else value


def _joined(known: Any, more: Any) -> Any:
    """The two as one. What is known may be changed by that."""
    if isinstance(more, str):
        if not isinstance(known, _Text):
            return _Text(more)
        if not known.is_text(more):
            known.add(more)
        return known
    if isinstance(more, dict):
        whole = known if isinstance(known, dict) else {}
        for key, value in more.items():
            whole[key] = _joined(whole.get(key), value)
        return whole
    if isinstance(more, list):
        return _joined_blocks(known if isinstance(known, list) else [], more)
    return more


def _joined_blocks(known: list[Any], more: list[Any]) -> list[Any]:
    for block in more:
        if known and _goes_on(known[-1], block):
            _join_block(known[-1], block)
        else:
            known.append(dict(block) if isinstance(block, dict) else block)
    return known


def _goes_on(known: Any, block: Any) -> bool:
    """Whether a block is a piece of the one before: a signature ends one."""
    if not (isinstance(known, dict) and isinstance(block, dict)) or known.get("signature"):
        return False
    if "data" in block or (block.get("id") and block["id"] != known.get("id", block["id"])):
        return False
    return all(known.get(key) == block.get(key) for key in ("type", "index"))


def _join_block(known: dict[str, Any], block: dict[str, Any]) -> None:
    for key, value in block.items():
        before = known.get(key)
        if key in JOINED and isinstance(value, str) and isinstance(before, str | _Text):
            if isinstance(before, str):
                before = known[key] = _Text(before)
            before.add(value)
        elif value is not None:
            known[key] = value
