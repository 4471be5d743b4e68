"""What an upstream said of a fault, understood from its whole body; no I/O.

Servers agree on nothing here: the words are in `error.message`, in `message`, in `detail` (a text,
or a list with a `loc` for each field), in `message.detail`, in JSON within a text, or in no JSON.
"""

import contextlib
import functools
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

Blame = Literal["field", "value"]

MAX_WORDS_CHARS: Final = 20_000
NAMING: Final = frozenset({"field", "loc", "param", "parameter", "path", "property"})
"""Keys whose value names a field of the request."""
ECHOES: Final = frozenset({"ctx", "input", "request", "url"})
"""Keys under which some repeat what was asked."""
UNKNOWN_FIELD: Final = re.compile(
    r"(unknown|unsupported) (field|param|name|argument|option|property|key)|unrecogni[sz]ed"
    r"|extra.?(forbidden|inputs|fields)|unexpected (keyword|argument|field|property)"
    r"|additional propert|cannot find field|not permitted"
)
WRONG_VALUE: Final = re.compile(
    r"must be|should be|must not|(less|greater|more) than|at (most|least)|too (large|big|small)"
    r"|too (high|low)|out of range|in the range|between|maximum|minimum|exceed|both|mutually|one of"
    r"|literal_error|supported values|invalid value|not a valid|unable to parse"
)
UNWANTED: Final = re.compile(
    r"unsupported|support|unknown|unexpected|not allowed|deprecated|only|invalid|instead|no longer"
)
_WAIT: Final = re.compile(
    r"(?:try again|retry)\w*(?: in| after)? "
    r"(?:(?P<m>\d{1,6})m(?!s))? ?(?:(?P<n>\d{1,6}(?:\.\d{1,6})?) ?(?P<unit>ms|s\b|sec))?"
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """A refusal, or a fault that was reported in a stream."""

    status: int = 0
    """Of HTTP; 0: none was told."""
    text: str
    body: Any = None
    """The text as JSON, where it is."""

    @classmethod
    def of_reply(cls, status: int, text: str) -> "Report":
        """What an HTTP error's body says."""
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            body = None
        return cls(status=status, text=text, body=body)

    @classmethod
    def of_object(cls, error: Any) -> "Report":
        """What an error object in a stream says, which may name the status that it had."""
        told = error.get("code") if isinstance(error, dict) else None
        code = str(told)
        status = int(code) if re.fullmatch("[45][0-9][0-9]", code) else 0
        return cls(status=status, text=str(error), body=error)

    @functools.cached_property
    def words(self) -> str:
        """All that is said, codes included, in lower case and without line ends."""
        said = self.text
        with contextlib.suppress(RecursionError):
            if isinstance(self.body, dict | list):
                said = " ".join(_texts(self.body))
        return " ".join(said[:MAX_WORDS_CHARS].replace("\\n", " ").lower().split())

    @property
    def is_of_an_api(self) -> bool:
        """Whether it has the form of an error that was meant for programs, as OpenAI's has."""
        first = self.body[0] if isinstance(self.body, list) and self.body else self.body
        return isinstance(first, dict) and bool({"error", "message", "object"} & first.keys())

    @property
    def wait(self) -> float | None:
        """Seconds after which to come back, where a sentence says so."""
        found = _WAIT.search(self.words)
        if not found or not (found["m"] or found["n"]):
            return None
        seconds = float(found["n"] or 0) / (1000 if found["unit"] == "ms" else 1)
        return seconds + 60 * int(found["m"] or 0)

    def options(self, asked: Collection[str]) -> tuple[str, ...]:
        """Which of the options that were asked for it is about."""
        with contextlib.suppress(RecursionError):
            named = [name for name in _named(self.body) if name in asked]
            if named:
                return tuple(dict.fromkeys(named))
        places = [(place, name) for name in asked if (place := _place(name, self.words)) >= 0]
        return (min(places)[1],) if places else ()

    @property
    def blames(self) -> Blame | None:
        """Whether it is about a field of the request or its value, once one is named."""
        by_request = self.status in (400, 422)
        # A fault of the server's own may mention anything.
        if not by_request and self.status not in (500, 501):
            return None
        if UNKNOWN_FIELD.search(self.words):
            return "field"
        if WRONG_VALUE.search(self.words):
            return "value" if by_request else None
        return "field" if by_request or UNWANTED.search(self.words) else None


def _texts(value: Any) -> Iterator[str]:
    """All texts and numbers in JSON, the names of fields left out."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in ECHOES:
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _named(value: Any) -> Iterator[str]:
    """All names of fields that JSON has where such names belong."""
    if isinstance(value, list):
        for inner in value:
            yield from _named(inner)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name in NAMING:
                yield from (part for text in _texts(inner) for part in re.split(r"[./]", text))
            elif name not in ECHOES:
                yield from _named(inner)


def _place(name: str, words: str) -> int:
    """Where a text names an option; -1: nowhere."""
    quoted = rf"[\"'`]{re.escape(name)}[\"'`]"
    bare = rf"(?<![\w]){re.escape(name)}(?![\w])"
    # `stop` or `user` in a sentence are no options.
    found = re.search(bare if "_" in name or name == "temperature" else quoted, words)
    return found.start() if found else -1
