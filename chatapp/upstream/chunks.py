"""What an OpenAI-compatible server streams, decoded; no sockets.

The base is OpenAI's chat completion chunk. Where servers differ, the reader takes what is meant:
reasoning under either of its names, no `choices`, no `delta`, unknown finish reasons. Only the
fields below are decoded from the bytes; the rest is skipped.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from ..answers.events import EventType
from ..errors import SEEN_CHARS, UpstreamError, UpstreamInvalid
from .advice import reported

Delta = tuple[EventType, str]

FINISH_REASONS: Final = {
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
}
"""Ours for the upstream's; every other one is a plain `stop`."""
FAULTS: Final = frozenset({"abort", "error", "insufficient_system_resource"})
"""Finish reasons by which vLLM, SGLang, OpenRouter and DeepSeek say that the answer broke off."""


MAX_TOOL_CALLS: Final = 128
MAX_TOOL_CALLS_CHARS: Final = 1 << 20


class Fragment(msgspec.Struct, gc=False):
    """A part of a tool call's name and arguments."""

    name: str | None = None
    arguments: str | None = None


class ToolCall(msgspec.Struct, gc=False):
    """A tool call's fragment; joined over all chunks, the whole call."""

    index: int | None = None
    id: str | None = None
    function: Fragment | None = None


class MessageDelta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None


class Choice(msgspec.Struct, gc=False):
    delta: MessageDelta | None = None
    finish_reason: str | None = None


class Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None


class Chunk(msgspec.Struct, gc=False):
    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None


_TEXT, _REASONING = EventType.TEXT, EventType.REASONING
_decode = msgspec.json.Decoder(Chunk).decode
NUL: Final = rb"\u0000"
"""As JSON has it. No text of PostgreSQL's may have it, and all are to read the same."""
_HIGH_SURROGATE_AT_END: Final = re.compile("[\ud800-\udbff]\\Z")


class ChunkReader:
    """Collects one answer from the data of its chunks."""

    __slots__ = ("_half", "_index_at", "_tool_chars", "finish_reason", "tool_calls", "usage")

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.usage: dict[str, int] | None = None
        self.tool_calls: dict[int, ToolCall] = {}
        self._tool_chars = 0
        self._index_at: dict[int, int] = {}
        self._half: dict[EventType, str] = {}

    def read(self, data: bytes, deltas: list[Delta]) -> None:
        """Add the pieces of one chunk to those that came before it.

        :raises UpstreamInvalid: when this is no chunk.
        :raises ChatAppError: what the upstream reports instead of a chunk.
        """
        try:
            chunk = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._read_mended(_decode_leniently(data), deltas)
            return
        if self._half or NUL in data:
            self._read_mended(chunk, deltas)
            return
        self._accept(chunk, deltas)

    def _read_mended(self, chunk: Chunk, deltas: list[Delta]) -> None:
        found: list[Delta] = []
        try:
            self._accept(chunk, found)
        finally:
            deltas += [whole for delta in found for whole in self._mend(*delta)]

    def rest(self) -> list[Delta]:
        """What a cut character leaves when the stream ends in its middle."""
        return [(kind, "\N{REPLACEMENT CHARACTER}") for kind in self._half]

    def _accept(self, chunk: Chunk, deltas: list[Delta]) -> None:
        if chunk.error:
            raise reported(chunk.error)
        if chunk.choices:
            choice = chunk.choices[0]
            delta = choice.delta
            if delta:
                if reasoning := delta.reasoning_content or delta.reasoning:
                    deltas.append((_REASONING, reasoning))
                if text := delta.content or delta.refusal:
                    deltas.append((_TEXT, text))
                for fragment in delta.tool_calls or ():
                    self._take_fragment(fragment)
            if choice.finish_reason:
                self._finish(choice.finish_reason)
        if chunk.usage:
            self.usage = tokens(chunk.usage)

    def _mend(self, kind: EventType, text: str) -> list[Delta]:
        """Join a surrogate pair that was cut between two chunks, and replace NUL."""
        text = self._half.pop(kind, "") + text
        if _HIGH_SURROGATE_AT_END.search(text):
            self._half[kind], text = text[-1], text[:-1]
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
        return [(kind, text)] if text else []

    def _take_fragment(self, fragment: ToolCall) -> None:
        index = self._index_of(fragment)
        self._tool_chars += len(str(fragment.function.arguments)) if fragment.function else 0
        if self._tool_chars > MAX_TOOL_CALLS_CHARS or len(self.tool_calls) > MAX_TOOL_CALLS:
            raise UpstreamInvalid(
                "The model asks for more tool calls than can be meant. Ask again."
            )
        call = self.tool_calls.setdefault(index, ToolCall(index))
        call.id = call.id or fragment.id
        if fragment.function:
            whole = call.function = call.function or Fragment("", "")
            whole.name = (whole.name or "") + (fragment.function.name or "")
            whole.arguments = (whole.arguments or "") + (fragment.function.arguments or "")

    def _index_of(self, fragment: ToolCall) -> int:
        """Which call it belongs to. Some servers give no indices, or all calls the same."""
        given = fragment.index or 0
        index = self._index_at.get(given, given)
        known = self.tool_calls.get(index)
        if known and known.id and fragment.id and fragment.id != known.id:
            index = self._index_at[given] = max(self.tool_calls) + 1
        return index

    def _finish(self, reason: str) -> None:
        if reason in FAULTS:
            raise UpstreamError(
                "The model broke the answer off. Ask again.", seen=f"finish reason {reason!r}"
            )
        self.finish_reason = FINISH_REASONS.get(reason, "stop")


def _decode_leniently(data: bytes) -> Chunk:
    """A chunk that is not quite one: content in parts, half a surrogate pair, broken UTF-8."""
    try:
        loose = json.loads(data.decode("utf-8", "replace"))
        for choice in loose.get("choices") or ():
            delta = choice.get("delta")
            if isinstance(delta, dict) and isinstance(delta.get("content"), list):
                _join_parts(delta)
        return msgspec.convert(loose, Chunk, strict=False)
    except (AttributeError, TypeError, ValueError, RecursionError, msgspec.ValidationError):
        raise UpstreamInvalid(
            "The model's server sent something that is not an answer. Try again.",
            seen=f"no chunk: {data[:SEEN_CHARS]!r}",
        ) from None


def _join_parts(delta: dict[str, Any]) -> None:
    """Mistral's form: content is a list of text and thinking parts."""
    parts = [part for part in delta["content"] if isinstance(part, dict)]
    thoughts = [part.get("thinking") for part in parts if part.get("type") == "thinking"]
    delta["content"] = _text_of(part for part in parts if part.get("type") == "text")
    delta["reasoning"] = "".join(
        thought if isinstance(thought, str) else _text_of(thought or ()) for thought in thoughts
    )


def _text_of(parts: Iterable[Any]) -> str:
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "".join(text for text in texts if isinstance(text, str))


def tokens(usage: Usage) -> dict[str, int]:
    """Usage in our three fields."""
    prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": usage.total_tokens or prompt + completion,
    }
