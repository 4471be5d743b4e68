"""Limits per owner and for all owners: question rate, tokens per day.

Conversations created without a question cost no tokens, but storage: they have the same rate limit
as questions, counted separately. The `limits` library counts both; it also drives Flask-Limiter,
which we don't use because it hooks into every request of the application. Windows are fixed: one
starts with an owner's first question and ends as a whole, so `Retry-After` is exact. If the storage
fails, nobody is refused.
"""

import hashlib
import logging
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import ConfigError, QuotaUsed, RateLimited
from ..settings import Settings

if TYPE_CHECKING:
    from limits import RateLimitItem
try:
    from limits import parse_many
    from limits.storage import MemoryStorage, Storage, storage_from_string
    from limits.strategies import FixedWindowRateLimiter
except ImportError:  # the extra is not installed
    available = False
else:
    available = True

logger = logging.getLogger(__name__)

STORAGE_SECONDS: Final = 1.0
"""Seconds that the storage may take."""
STORAGE_PAUSE: Final = 10.0
"""Seconds without using the storage after it has failed."""
MAX_KEYS: Final = 20_000
"""Maximum owners counted in memory, where each sweep looks at all of them."""


class Counted(NamedTuple):
    """Something that is rate-limited, and the sentences of its refusals."""

    key: str
    you: str
    """For an owner over their own limit."""
    all: str
    """For everybody, when all owners together are over the limit."""


QUESTIONS: Final = Counted(
    "",
    "You have asked too many questions.",
    "This server is getting too many questions.",
)
CONVERSATIONS: Final = Counted(
    "conversations:",
    "You have started too many conversations.",
    "Too many conversations are being started on this server.",
)


class Limits:
    """The limits of one chat.

    :param tokens_since: how many tokens an owner has used since a moment.
    :param scope: separates the counts of several chats that share a storage.
    :raises ConfigError: an option has a wrong value, or needs what is not installed.
    """

    def __init__(
        self,
        settings: Settings,
        tokens_since: Callable[[str, datetime], int],
        scope: str = "",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._tokens_since = tokens_since
        self._clock = clock
        self._rates: Rates | None = None
        if settings.rate_limit or settings.rate_limit_all:
            self._rates = Rates(settings, scope)

    def check(self, owner: str, rate_limit_key: str | None = None) -> None:
        """Admit one more answer of `owner`, or raise.

        :param rate_limit_key: counts under this instead of the owner: a client without a cookie is
            a new owner on each request, and is better identified by its address.
        :raises QuotaUsed:
        :raises RateLimited:
        """
        if rate_limit_key is None:
            self._check_tokens(owner)
        if self._rates:
            self._rates.hit(rate_limit_key or owner, QUESTIONS)

    def check_conversation(self, owner: str, rate_limit_key: str | None = None) -> None:
        """Admit one more conversation without a question, or raise.

        :param rate_limit_key: as for `check`.
        :raises RateLimited:
        """
        if self._rates:
            self._rates.hit(rate_limit_key or owner, CONVERSATIONS)

    def _check_tokens(self, owner: str) -> None:
        most = self._settings.tokens_per_day
        if not most:
            return
        now = self._clock()
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        if self._tokens_since(owner, today) >= most:
            wait = (today + timedelta(days=1) - now).total_seconds()
            raise QuotaUsed(
                f"You have used all your tokens for today. Come back in {_spoken(wait)}.",
                retry_after=math.ceil(wait),
            )


class Rates:
    """Counts per owner and for all owners."""

    def __init__(self, settings: Settings, scope: str) -> None:
        if not available:
            raise ConfigError(
                "CHATAPP_RATE_LIMIT needs the package limits: pip install 'chatapp[limits]'."
            )
        self._scope = scope
        self._each = _parsed("CHATAPP_RATE_LIMIT", settings.rate_limit)
        self._all = _parsed("CHATAPP_RATE_LIMIT_ALL", settings.rate_limit_all)
        self._storage = _storage(settings.rate_limit_storage)
        self._limiter = FixedWindowRateLimiter(self._storage)
        self._lock = threading.Lock()
        self._trusted_from = 0.0

    def hit(self, owner: str, thing: Counted) -> None:
        """Count one more. One over its owner's limit does not count towards the limit of all.

        :raises RateLimited:
        """
        if time.monotonic() < self._trusted_from:
            return
        # Owners may be people's names, which a shared storage need not know.
        name = hashlib.sha256(owner.encode("utf-8", "replace")).hexdigest()[:32]
        try:
            self._forget_some()
            self._hit(self._each, thing.you, f"{thing.key}owner:{name}")
            self._hit(self._all, thing.all, f"{thing.key}all")
        except RateLimited:
            raise
        except Exception as error:  # Each storage has errors of its own.
            self._distrust(error)

    def _hit(self, rates: "list[RateLimitItem]", what: str, key: str) -> None:
        for rate in rates:
            if not self._limiter.hit(rate, "chatapp", self._scope, key):
                reset = self._limiter.get_window_stats(rate, "chatapp", self._scope, key).reset_time
                wait = max(math.ceil(reset - time.time()), 1)
                raise RateLimited(f"{what} Try again in {_spoken(wait)}.", retry_after=wait)

    def _forget_some(self) -> None:
        if isinstance(self._storage, MemoryStorage) and len(self._storage.storage) > MAX_KEYS:
            logger.warning(
                "rate limits: more than %d owners are counted in memory. All counts start again "
                "at zero; set CHATAPP_RATE_LIMIT_STORAGE to a Redis.",
                MAX_KEYS,
            )
            self._storage.reset()

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


def _parsed(name: str, rates: str | None) -> "list[RateLimitItem]":
    if rates is None:
        return []
    try:
        return parse_many(rates)
    except ValueError:
        raise ConfigError(
            f"{name}={rates!r} is not a rate. Write, for example, 20/minute;200/day."
        ) from None


def _storage(url: str) -> "Storage":
    scheme = url.partition(":")[0]  # The rest may hold a password.
    slow: dict[str, float] = {}
    if scheme.startswith(("redis", "valkey")):
        slow = {"socket_timeout": STORAGE_SECONDS, "socket_connect_timeout": STORAGE_SECONDS}
    try:
        storage = storage_from_string(url, **slow)
    except Exception as error:  # Each storage has errors of its own.
        # The error's own text may have the whole address in it.
        raise ConfigError(
            f"CHATAPP_RATE_LIMIT_STORAGE={scheme}:… can't be used ({type(error).__name__}). "
            "Write memory:// or redis://host:6379; the latter needs the package redis."
        ) from None
    if not isinstance(storage, Storage):
        raise ConfigError(
            f"CHATAPP_RATE_LIMIT_STORAGE={scheme}:… is for asyncio. Remove the async+."
        )
    return storage


def _spoken(seconds: float) -> str:
    """A time in the largest unit that it fills."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{math.ceil(seconds / size)} {unit}"
    return f"{math.ceil(seconds)} s"
