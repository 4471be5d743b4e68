"""Estimates token counts without a tokenizer; no I/O."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

BYTES_PER_TOKEN: Final = 4
"""Bytes of UTF-8; works about equally well for all scripts."""


def estimated_tokens(texts: Iterable[str]) -> int:
    """The tokens of these texts together."""
    return -(-sum(map(_size, texts)) // BYTES_PER_TOKEN)


def estimated_usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Usage with OpenAI's names."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def estimated_prompt(messages: Iterable[Mapping[str, Any]]) -> int:
    """Tokens of messages in OpenAI's form."""
    return estimated_tokens(text for message in messages for text in texts_of(message))


def texts_of(message: Mapping[str, Any]) -> Iterable[str]:
    """The texts of a message in OpenAI's format.

    Other content, such as an image, counts as nothing: its cost depends on the model.
    """
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    texts = (part.get("text") if isinstance(part, dict) else part for part in parts)
    return (text for text in texts if isinstance(text, str))


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
