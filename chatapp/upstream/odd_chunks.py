"""Chunks that are not quite OpenAI's, read as they are meant; no I/O.

This is the slow way: it is gone only with what the decoder of `chunks` refuses, or finds empty.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ..errors import SEEN_CHARS, UpstreamInvalid
from .loose_values import count_from, decode_loosely, plain, text_from

DELTA_KEYS: Final = frozenset(
    {
        "content",
        "function_call",
        "reasoning",
        "reasoning_content",
        "refusal",
        "role",
        "tool_calls",
    }
)
USAGE_NAMES: Final = (
    ("prompt_tokens", "input_tokens"),
    ("completion_tokens", "output_tokens"),
    ("total_tokens",),
)


class OddChunk(NamedTuple):
    """What a chunk says, whatever its form."""

    error: Any = None
    choice: int | None = None
    """The choice's index; None: there is no choice."""
    text: str = ""
    reasoning: str = ""
    reasoning_key: str = "reasoning_content"
    """Under which name the reasoning came."""
    tool_calls: Any = None
    function_call: Any = None
    finish_reason: str = ""
    usage: dict[str, int | None] | None = None
    extra: dict[str, Any] | None = None
    """What the message has beside these, as it came."""


def read_odd_chunk(data: bytes, wanted: int | None) -> OddChunk | None:
    """What a chunk says; None: this is no chunk, such as a `ping`.

    :param wanted: the index of the choice to read; where it is not there, the first one is read.
    :raises UpstreamInvalid: this has been a chunk, and is broken.
    """
    try:
        return _read(decode_loosely(data), wanted)
    except (ValueError, ArithmeticError, RecursionError):
        if data.lstrip().startswith(b"{"):
            raise UpstreamInvalid(
                "The model's server sent something that is not an answer. Try again.",
                seen=f"no chunk: {data[:SEEN_CHARS]!r}",
            ) from None
        return None


def _read(chunk: Any, wanted: int | None) -> OddChunk | None:
    if isinstance(chunk, list):  # Gemini's way to send an error.
        chunk = next((each for each in chunk if isinstance(each, dict)), None)
    if not isinstance(chunk, dict):
        return None
    if chunk.get("object") == "error":
        return OddChunk(error=chunk.get("error") or chunk)
    choice = _choice(chunk.get("choices"), wanted)
    odd = OddChunk() if choice is None else _read_choice(choice)
    return odd._replace(error=chunk.get("error"), usage=_usage(chunk.get("usage")))


def _choice(given: Any, wanted: int | None) -> dict[str, Any] | None:
    choices = given if isinstance(given, list) else [given]
    choices = [each for each in choices if isinstance(each, dict)]
    found = (each for each in choices if _index(each) == wanted)
    return next(found, next(iter(choices), None))


def _index(choice: dict[str, Any]) -> int:
    """Its index; 0 where none is given."""
    given = choice.get("index")
    return given if isinstance(given, int) else 0


def _read_choice(choice: dict[str, Any]) -> OddChunk:
    message = choice.get("delta")
    if message is None:
        message = choice.get("message")
    if not isinstance(message, dict):
        message = {"content": message or choice.get("text")}
    parts = list(_parts(message.get("content")))
    key, reasoning = _reasoning(message)
    return OddChunk(
        choice=_index(choice),
        text="".join(text for kind, text in parts if kind == "text")
        or _joined(message.get("refusal")),
        reasoning=reasoning + "".join(text for kind, text in parts if kind == "thinking"),
        reasoning_key=key,
        tool_calls=message.get("tool_calls"),
        function_call=message.get("function_call"),
        finish_reason=text_from(choice.get("finish_reason") or choice.get("finishReason")),
        extra={k: plain(v) for k, v in message.items() if k not in DELTA_KEYS and v},
    )


def _reasoning(message: dict[str, Any]) -> tuple[str, str]:
    for key in ("reasoning_content", "reasoning"):
        if text := _joined(message.get(key)):
            return key, text
    return "reasoning_content", ""


def _joined(content: Any) -> str:
    return "".join(text for _, text in _parts(content))


def _parts(content: Any) -> Iterator[tuple[str, str]]:
    """The texts of a content, which may be a list of parts (Mistral's form), with their kinds."""
    if isinstance(content, list):
        for part in content:
            yield from _parts(part)
    elif not isinstance(content, dict):
        yield "text", text_from(content)
    elif (kind := content.get("type", "text")) == "text":
        yield "text", text_from(content.get("text"))
    elif kind == "thinking":
        yield "thinking", _joined(content.get("thinking"))


def _usage(given: Any) -> dict[str, int | None] | None:
    """Tokens by the names of ours; None: nothing is told."""
    if isinstance(given, list):
        given = next((each for each in reversed(given) if isinstance(each, dict)), None)
    if not isinstance(given, dict):
        return None
    told = {
        names[0]: next((n for n in (count_from(given.get(key)) for key in names) if n), None)
        for names in USAGE_NAMES
    }
    return told if any(told.values()) else None
