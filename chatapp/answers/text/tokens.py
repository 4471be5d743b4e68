"""About how many tokens a text has, for who has no tokenizer; no I/O."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

BYTES_PER_TOKEN: Final = 4
"""Of UTF-8; an estimate that holds for every script about equally well."""


def estimated_tokens(texts: Iterable[str]) -> int:
    """Of these texts together."""
    return -(-sum(map(_size, texts)) // BYTES_PER_TOKEN)


def texts_of(message: Mapping[str, Any]) -> Iterable[str]:
    """The texts of a message in OpenAI's form.

    What else is in it, such as a picture, costs what the model makes of it. Nobody knows that here,
    so it counts nothing.
    """
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    texts = (part.get("text") if isinstance(part, dict) else part for part in parts)
    return (text for text in texts if isinstance(text, str))


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
