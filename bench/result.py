"""Levels of load and what was measured at them; medians over rounds."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Self

BUSY_RATE = 50


@dataclass(frozen=True, order=True)
class Level:
    """So many streams of so many events a second."""

    streams: int
    rate: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """``400``: 400 streams of 50 events a second; ``400x30``: of 30; ``idle4000``: of one."""
        if text.startswith("idle"):
            return cls(int(text.removeprefix("idle")), 1)
        streams, _, rate = text.partition("x")
        return cls(int(streams), int(rate or BUSY_RATE))

    @property
    def idle(self) -> bool:
        """Whether these are the nearly idle streams."""
        return self.rate == 1

    def __str__(self) -> str:
        return f"{self.streams} × {self.rate}/s"


@dataclass(frozen=True)
class Result:
    """One server at one level in one round.

    Times are in µs, memory in bytes, CPU in shares of one core; `waited` is the share of the time
    in which the server could have run but something else had the core. `age` is the added latency
    of an event, `ttfb` and `ttft` the first byte and the first token of visitors who come while the
    streams run; `unanswered` is the share of these that had no token when the run ended.
    """

    peer: str
    round: int
    streams: int
    rate: int
    up: int
    failed: int
    first_failure: str
    cpu_per_event: float
    share: float
    waited: float
    events_per_s: float
    delivered: float
    age_p50: float
    age_p99: float
    ttfb_p50: float
    ttfb_p99: float
    ttft_p50: float
    ttft_p99: float
    unanswered: float
    memory_per_stream: float
    upstream_share: float
    load_share: float

    @property
    def level(self) -> Level:
        return Level(self.streams, self.rate)

    @property
    def saturated(self) -> bool:
        """Whether the core was full or events fell behind."""
        return self.share + self.waited > 0.95 or self.delivered < 0.97

    @property
    def limited_by_load(self) -> bool:
        """Whether the core was full although every event that was offered has passed.

        CPU per event is then the core divided by the offer, whatever the server: one that has time
        left to spend takes smaller bites. It says nothing of the cost, and is no ceiling.
        """
        return self.saturated and self.events_per_s >= 0.97 * self.streams * self.rate

    def json(self) -> dict[str, Any]:
        """The fields, which make the same result again as keywords."""
        return asdict(self)


class Results:
    """All that was measured, asked by server and level."""

    def __init__(self, all_: list[Result]) -> None:
        self.all = all_
        self.peers = list(dict.fromkeys(each.peer for each in all_))
        levels = dict.fromkeys(each.level for each in all_)
        self.busy = [each for each in levels if not each.idle]
        self.idle = [each for each in levels if each.idle]

    def of(self, peer: str, level: Level) -> list[Result]:
        """One server's results at one level, a round each."""
        return [each for each in self.all if each.peer == peer and each.level == level]

    def median(self, peer: str, level: Level, value: Callable[[Result], float]) -> float | None:
        """Over the rounds; nothing where it was not measured."""
        values = [value(each) for each in self.of(peer, level)]
        return median(values) if values else None

    def saturated(self, peer: str, level: Level) -> bool:
        """Whether it was so in most rounds."""
        return (self.median(peer, level, lambda each: each.saturated) or 0) >= 0.5

    def ratios(self, peer: str, other: str, level: Level) -> list[float]:
        """How many times more CPU an event costs in the first, in each round; the lowest first."""
        others = {each.round: each for each in self.of(other, level)}
        return sorted(
            each.cpu_per_event / others[each.round].cpu_per_event
            for each in self.of(peer, level)
            if each.round in others
        )

    def limited_by_load(self, peer: str, level: Level) -> bool:
        """Whether it was so in most rounds."""
        return (self.median(peer, level, lambda each: each.limited_by_load) or 0) >= 0.5

    def ceiling(self, peer: str) -> tuple[float, bool] | None:
        """The most events a second that were delivered, and whether more had been offered."""
        seen = [
            (rate, (self.median(peer, level, lambda each: each.delivered) or 0) < 0.97)
            for level in self.busy
            if (rate := self.median(peer, level, lambda each: each.events_per_s)) is not None
        ]
        return max(seen, default=None)
