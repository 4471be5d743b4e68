"""OpenAI's chat completion chunk, as far as it is read; the rest is skipped."""

from typing import Any

import msgspec


class MessageDelta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: Any = None
    function_call: Any = None


class Choice(msgspec.Struct, gc=False):
    delta: MessageDelta | None = None
    finish_reason: str | None = None
    index: int | None = None


class Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None


class Chunk(msgspec.Struct, gc=False):
    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None


class KnownDelta(MessageDelta, gc=False, forbid_unknown_fields=True):
    """One that has no field which would have to go back."""

    role: Any = None


class KnownChoice(Choice, gc=False):
    delta: KnownDelta | None = None


class KnownChunk(Chunk, gc=False):
    choices: list[KnownChoice] | None = None  # type: ignore[assignment] # it is only read


decode = msgspec.json.Decoder(Chunk).decode
decode_known = msgspec.json.Decoder(KnownChunk).decode
"""Refuses a message with fields that would have to go back."""
