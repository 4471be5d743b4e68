"""Limits of who may ask: rates of questions, conversations and visitors; tokens.

Each limit that is set holds for everybody. Where it is not set, a default holds for visitors if
their questions may cost money: users who have signed in can be told apart, and talked to.

Visitors pay together with their address, as a new cookie is to be had for nothing. Conversations
created without a question cost no tokens, but storage: they have the same rate limit as questions,
counted separately, and one of their own. If the storage of the counts fails, nobody is refused.
"""

import hashlib
import logging
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from ..errors import ConfigError, QuotaUsed, RateLimited
from ..identity.payers import Payer
from ..rates import Charge, Counts, Rate, parse_rates
from ..settings import Settings

logger = logging.getLogger(__name__)

STORAGE_PAUSE: Final = 10.0
"""Seconds without using the storage after it has failed."""
DEFAULTS: Final = {
    "rate_limit": "20/minute;200/day",
    "rate_limit_all": "120/minute;2000/day",
    "new_visitors": "60/hour",
}
"""What holds for visitors where nothing is set, and questions may cost money."""
DEFAULT_TOKENS: Final = 500_000


class Counted(NamedTuple):
    """Something that is rate-limited, and the sentences of its refusals."""

    key: str
    you: str
    """For an owner or an address over its own limit."""
    all: str
    """For everybody, when all owners together are over the limit."""


QUESTIONS: Final = Counted(
    "questions",
    "You have asked too many questions.",
    "This server is getting too many questions.",
)
CONVERSATIONS: Final = Counted(
    "conversations",
    "You have started too many conversations.",
    "Too many conversations are being started on this server.",
)
VISITORS: Final = Counted(
    "visitors", "Too many new visitors come from your network.", "Too many visitors come."
)


class Limits:
    """The limits of one chat.

    :param counts: where requests are counted.
    :param tokens_since: how many tokens an owner has used since a moment.
    :param scope: separates the counts of several chats that share a storage.
    :raises ConfigError: an option has a wrong value.
    """

    def __init__(
        self,
        settings: Settings,
        counts: Counts,
        tokens_since: Callable[[str, datetime], int],
        scope: str = "",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._tokens_since = tokens_since
        self._clock = clock
        self._rates = Rates(settings, counts, scope)

    def check(self, payer: Payer) -> None:
        """Admit one more answer, or raise.

        :raises QuotaUsed:
        :raises RateLimited:
        """
        if not payer.is_new:
            self._check_tokens(payer)
        self._rates.hit(payer, QUESTIONS)

    def check_conversation(self, payer: Payer) -> None:
        """Admit one more conversation without a question, or raise.

        :raises RateLimited:
        """
        self._rates.hit(payer, CONVERSATIONS)

    def check_visitor(self, payer: Payer) -> None:
        """Admit one more visitor who comes without a cookie, or raise.

        :raises RateLimited:
        """
        self._rates.hit(payer, VISITORS)

    def told(self) -> str:
        """What holds, in one line for the operator."""
        tokens = self._most_tokens(is_visitor=True)
        running = self._settings.max_running_per_owner
        parts = [
            *self._rates.told(),
            f"{tokens} tokens a day" if tokens else "tokens a day: any",
            f"{running} answers at once",
        ]
        return f"limits of a visitor: {', '.join(parts)} (docs/settings.md; 0 turns one off)"

    def _check_tokens(self, payer: Payer) -> None:
        most = self._most_tokens(is_visitor=payer.network is not None)
        if not most:
            return
        now = self._clock()
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        if self._tokens_since(payer.owner, today) >= most:
            wait = (today + timedelta(days=1) - now).total_seconds()
            raise QuotaUsed(
                f"You have used all your tokens for today. Come back in {_spoken(wait)}.",
                retry_after=math.ceil(wait),
            )

    def _most_tokens(self, *, is_visitor: bool) -> int:
        """0: any number."""
        if self._settings.tokens_per_day is not None:
            return self._settings.tokens_per_day
        return DEFAULT_TOKENS if is_visitor and self._settings.may_cost else 0


class _Limit(NamedTuple):
    """A limit as it holds for each kind of owner."""

    user: list[Rate]
    visitor: list[Rate]

    @classmethod
    def of(cls, settings: Settings, name: str) -> "_Limit":
        """:raises ConfigError: the option is no rate."""
        given: str | None = getattr(settings, name)
        if given is not None:
            rates = _parsed(f"CHATAPP_{name.upper()}", given)
            return cls(rates, rates)
        default = DEFAULTS.get(name) if settings.may_cost else None
        return cls([], parse_rates(default or "0"))

    def __str__(self) -> str:
        return ";".join(_told(rate) for rate in self.visitor) or "any"


class Rates:
    """Counts per owner, per address and for all."""

    def __init__(self, settings: Settings, counts: Counts, scope: str) -> None:
        self._counts = counts
        self._scope = scope
        self._each = _Limit.of(settings, "rate_limit")
        # Where nothing else is set, a visitor who takes a new cookie may ask no more than before.
        given = settings.rate_limit_address is not None
        self._address = _Limit.of(settings, "rate_limit_address") if given else self._each
        self._all = _Limit.of(settings, "rate_limit_all")
        self._visitors = _Limit.of(settings, "new_visitors")
        self._empty = _Limit.of(settings, "new_conversations")
        self._lock = threading.Lock()
        self._trusted_from = 0.0

    def told(self) -> list[str]:
        """Of each limit what holds for a visitor."""
        return [
            f"questions: {self._each}",
            f"from an address: {self._address}",
            f"from all together: {self._all}",
            f"new visitors from an address: {self._visitors}",
        ]

    def hit(self, payer: Payer, thing: Counted) -> None:
        """Count one more, for all that it is charged to or, if one is full, for none.

        :raises RateLimited:
        """
        charges = self._charges(payer, thing)
        if not charges or time.monotonic() < self._trusted_from:
            return
        try:
            full = self._counts.take(charges)
        except Exception as error:  # Each storage has errors of its own.
            self._distrust(error)
            return
        if full is not None:
            what = thing.all if full.charge.is_shared else thing.you
            wait = max(math.ceil(full.wait), 1)
            raise RateLimited(f"{what} Try again in {_spoken(wait)}.", retry_after=wait)

    def _charges(self, payer: Payer, thing: Counted) -> list[Charge]:
        at = 0 if payer.network is None else 1
        if thing is VISITORS:
            limits = [(key, self._visitors[at]) for key in payer.keys]
            everybody: list[Rate] = []
        else:
            empty = self._empty[at] if thing is CONVERSATIONS else []
            limits = [
                (key, (self._each if key == payer.owner else self._address)[at] + empty)
                for key in payer.keys
            ]
            everybody = self._all[at]
        # Owners may be people's names, which a shared storage need not know.
        charges = [
            Charge(self._key(thing, hashlib.sha256(_bytes(key)).hexdigest()[:32], rate), rate)
            for key, rates in limits
            for rate in rates
        ]
        shared = (Charge(self._key(thing, "all", rate), rate, is_shared=True) for rate in everybody)
        return [*charges, *shared]

    def _key(self, thing: Counted, who: str, rate: Rate) -> str:
        return f"{self._scope}:{thing.key}:{who}:{_told(rate)}"

    def _distrust(self, error: Exception) -> None:
        with self._lock:
            now = time.monotonic()
            if now < self._trusted_from:
                return  # Another request has logged it.
            self._trusted_from = now + STORAGE_PAUSE
        logger.error(
            "rate limits: the storage is failing, so nobody is limited for %g s: %r",
            STORAGE_PAUSE,
            error,
        )


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "replace")


def _parsed(name: str, rates: str) -> list[Rate]:
    try:
        return parse_rates(rates)
    except ValueError:
        raise ConfigError(
            f"{name}={rates!r} is not a rate. Write, for example, 20/minute;200/day; 0 is no limit."
        ) from None


def _told(rate: Rate) -> str:
    units = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
    size, unit = next(each for each in units if not rate.seconds % each[0])
    number = rate.seconds // size
    return f"{rate.most}/{unit}" if number == 1 else f"{rate.most}/{number} {unit}s"


def _spoken(seconds: float) -> str:
    """A time in the largest unit that it fills."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{math.ceil(seconds / size)} {unit}"
    return f"{math.ceil(seconds)} s"
