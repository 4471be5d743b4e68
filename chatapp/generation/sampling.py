"""The sampling options that a question or a conversation may set, by OpenAI's names; no I/O.

To add one, add a row to `SAMPLING_OPTIONS`, and a field to the page if visitors should set it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ..errors import InvalidRequest


class SamplingOption(Protocol):
    """Which values an option may have."""

    def check(self, name: str, value: Any, /) -> None:
        """:raises InvalidRequest: naming the option and what it may be."""


@dataclass(frozen=True, slots=True)
class Number:
    """From `low` to `high`, both included."""

    low: float
    high: float
    whole: bool = False

    def check(self, name: str, value: Any) -> None:
        """As `SamplingOption.check`."""
        kinds = (int,) if self.whole else (int, float)
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        if not (is_number and self.low <= value <= self.high):
            kind = "a whole number" if self.whole else "a number"
            raise InvalidRequest(
                f"{name} must be {kind} from {self.low:g} to {self.high:g}.", param=name
            )


@dataclass(frozen=True, slots=True)
class Word:
    """A lower-case word; the model's server knows which ones are valid."""

    examples: str

    def check(self, name: str, value: Any) -> None:
        """As `SamplingOption.check`."""
        if not isinstance(value, str) or not _WORD.fullmatch(value):
            raise InvalidRequest(f"{name} must be a word like {self.examples}.", param=name)


_WORD: Final = re.compile(r"[a-z]{1,16}", re.ASCII)

MAX_TOKENS: Final = 10_000_000

SAMPLING_OPTIONS: Final[Mapping[str, SamplingOption]] = {
    "temperature": Number(0, 2),
    "top_p": Number(0, 1),
    "max_tokens": Number(1, MAX_TOKENS, whole=True),
    "reasoning_effort": Word("low, medium or high"),
}


def check_option(name: str, value: Any, max_tokens: int) -> None:
    """As `SamplingOption.check`, with a ceiling of this chat's for `max_tokens`."""
    option = SAMPLING_OPTIONS[name]
    if name == "max_tokens":
        option = Number(1, min(max_tokens, MAX_TOKENS), whole=True)
    option.check(name, value)


def sampling_of(settings: Mapping[str, Any], max_tokens: int) -> dict[str, Any]:
    """The sampling options among a conversation's settings, which may be older than the ceiling."""
    options = {name: settings[name] for name in SAMPLING_OPTIONS if name in settings}
    asked = options.get("max_tokens")
    if isinstance(asked, int) and asked > max_tokens:
        options["max_tokens"] = max_tokens
    return options
