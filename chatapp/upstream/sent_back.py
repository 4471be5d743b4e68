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
    """Joins the fields of a message's deltas, as they came."""

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
        return {key: "".join(texts) for key, texts in self._reasoning.items()} | self._fields

    def _count(self, what: Any) -> None:
        self._chars += len(str(what))
        if self._chars > MAX_CHARS:
            raise UpstreamInvalid(
                "The model's server sent too much at once. Try again.",
                seen=f"more than {MAX_CHARS} characters to send back",
            )


def _joined(known: Any, more: Any) -> Any:
    if isinstance(known, str) and isinstance(more, str):
        return known if known == more else known + more
    if isinstance(known, dict) and isinstance(more, dict):
        return known | {key: _joined(known.get(key), value) for key, value in more.items()}
    if isinstance(more, list):
        return _joined_blocks(list(known) if isinstance(known, list) else [], more)
    return more


def _joined_blocks(known: list[Any], more: list[Any]) -> list[Any]:
    for block in more:
        if known and _goes_on(known[-1], block):
            known[-1] = _joined_block(known[-1], block)
        else:
            known.append(block)
    return known


def _goes_on(known: Any, block: Any) -> bool:
    """Whether a block is a piece of the one before: a signature ends one."""
    if not (isinstance(known, dict) and isinstance(block, dict)) or known.get("signature"):
        return False
    if "data" in block or (block.get("id") and block["id"] != known.get("id", block["id"])):
        return False
    return all(known.get(key) == block.get(key) for key in ("type", "index"))


def _joined_block(known: dict[str, Any], block: dict[str, Any]) -> dict[str, Any]:
    joined = dict(known)
    for key, value in block.items():
        before = known.get(key)
        if key in JOINED and isinstance(before, str) and isinstance(value, str):
            joined[key] = before + value
        elif value is not None:
            joined[key] = value
    return joined
