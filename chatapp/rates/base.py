"""What a rate is, and what counts can do."""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

UNITS: Final = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86_400,
    "month": 30 * 86_400,
    "year": 365 * 86_400,
}
"""Seconds of each."""
_RATE: Final = re.compile(
    rf"(\d{{1,9}})\s*(?:/|\s+per\s+)\s*(?:(\d{{1,4}})\s+)?({'|'.join(UNITS)})s?", re.ASCII
)


class Rate(NamedTuple):
    """At most `most` in a window of so many seconds."""

    most: int
    seconds: int


class Charge(NamedTuple):
    """One count that a request adds to."""

    key: str
    """Names the count."""
    rate: Rate
    is_shared: bool = False
    """Whether it counts everybody: one of a few that must not be lost."""


class Full(NamedTuple):
    """Why a request is refused."""

    charge: Charge
    """The one that is full for longest."""
    wait: float
    """Seconds until its window ends."""


class Counts(Protocol):
    """Where requests are counted."""

    def take(self, charges: Sequence[Charge]) -> Full | None:
        """Add one to each of these counts, or to none if one is full.

        Atomic: also of parallel calls, on any worker that shares the counts, no more pass than may.
        Whatever it raises says that the place does not work.
        """


def parse_rates(text: str) -> list[Rate]:
    """The rates in a text such as `20/minute;200/day`; `0` has none.

    :raises ValueError: it says something else.
    """
    if text.strip() == "0":
        return []
    found = []
    for part in re.split("[;,|]", text):
        given = _RATE.fullmatch(part.strip().lower())
        if given is None or not int(given[1]) or not int(given[2] or 1):
            raise ValueError(f"{part!r} is no rate")
        found.append(Rate(int(given[1]), int(given[2] or 1) * UNITS[given[3]]))
    return found


def longest(full: Sequence[Full]) -> Full | None:
    """The one that has to be waited for."""
    return max(full, key=lambda each: each.wait, default=None)
