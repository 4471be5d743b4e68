"""Validates single texts that clients send."""

from typing import Any

from ..errors import InvalidRequest


def text_field(name: str, value: Any, most: int) -> str:
    """A non-blank string of at most `most` characters.

    :raises InvalidRequest: it is none.
    """
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequest(f"{name} must be a non-blank string.", param=name)
    check_text(name, value, most)
    return value


def check_text(name: str, value: str, most: int) -> None:
    """:raises InvalidRequest: more than `most` characters, or no text that can be sent."""
    if len(value) > most:
        raise InvalidRequest(f"{name} has {len(value)} characters; {most} are allowed.", param=name)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{name} contains an unpaired surrogate.", param=name) from None
