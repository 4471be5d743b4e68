"""Takes out of an upstream's words what no log may have: keys, and what would break a line."""

import re
from collections.abc import Collection
from typing import Final

import httpx2

from ..errors import ChatAppError

KEY_HEADERS: Final = ("authorization", "api-key")
MIN_KEY_CHARS: Final = 6
"""A shorter one would be found in ordinary words."""
HIDDEN: Final = "***"
MAX_CHARS: Final = 1000
"""Of what is logged of one fault."""
_LIKE_KEYS: Final = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|key|ghp|AIza)[-_A-Za-z0-9]{12,200}"
    r"|(?<=bearer)[ :=]{1,3}[^\s\"'\\,;}]{6,2000}"
    r"|(?<=api.key)[\\\"']{0,3}[ ]?[:=][ ]?[\\\"']{0,3}[^\s\"'\\,;}]{6,2000}"
    r"|\beyJ[-_A-Za-z0-9]{10,2000}(?:\.[-_A-Za-z0-9]{1,2000}){0,2}",
    re.IGNORECASE,
)


def keys_of(request: httpx2.Request) -> tuple[str, ...]:
    """The secrets that a request carries."""
    values = (request.headers.get(name, "") for name in KEY_HEADERS)
    keys = (value.removeprefix("Bearer ").strip() for value in values)
    return tuple(key for key in keys if len(key) >= MIN_KEY_CHARS)


def hidden(text: str, keys: Collection[str] = ()) -> str:
    """The text without these keys, nor anything that looks like one; cut at `MAX_CHARS`."""
    for key in keys:
        text = text.replace(key, HIDDEN)
    return _LIKE_KEYS.sub(HIDDEN, text[: 8 * MAX_CHARS])[:MAX_CHARS]


def scrubbed(text: str, keys: Collection[str] = ()) -> str:
    """As `hidden`, and on one line, without control characters."""
    text = hidden(text, keys)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def without_secrets(error: ChatAppError, keys: Collection[str]) -> ChatAppError:
    """The same error, with what there was to see of it scrubbed."""
    error.seen = scrubbed(error.seen, keys)
    return error
