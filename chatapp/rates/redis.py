"""Counts in Redis, for all workers that use it."""

from collections.abc import Sequence
from typing import Any, Final

from ..errors import ConfigError
from .base import Charge, Full

SECONDS: Final = 1.0
"""That the server may take to connect, and to answer."""
CONNECTIONS: Final = 8
PREFIX: Final = "chatapp:rate:"

# KEYS: the counts. ARGV: for each how many at most, and the milliseconds of a window.
_TAKE: Final = """
local full, wait = 0, -1
for i, key in ipairs(KEYS) do
  if tonumber(redis.call('GET', key) or '0') >= tonumber(ARGV[2 * i - 1]) then
    local left = redis.call('PTTL', key)
    if left > wait then full, wait = i, left end
  end
end
if full > 0 then return {full, wait} end
for i, key in ipairs(KEYS) do
  if redis.call('INCR', key) == 1 then redis.call('PEXPIRE', key, ARGV[2 * i]) end
end
return {0, 0}
"""


class RedisCounts:
    """A script counts in one step; each count expires with its window.

    :raises ConfigError: the address is none, or redis-py is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            import redis
        except ModuleNotFoundError:
            raise ConfigError(
                "CHATAPP_RATE_LIMIT_STORAGE needs redis-py: install the extra `redis` of this "
                "package."
            ) from None
        try:
            self.pool: Any = redis.BlockingConnectionPool.from_url(
                url.replace("valkey://", "redis://", 1),
                max_connections=CONNECTIONS,
                timeout=SECONDS,
                socket_timeout=SECONDS,
                socket_connect_timeout=SECONDS,
                retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1, (redis.ConnectionError,)),
                protocol=2,
            )
        except ValueError:
            raise ConfigError(
                "CHATAPP_RATE_LIMIT_STORAGE is no Redis address. Write redis://host:6379."
            ) from None
        self._take: Any = redis.Redis(connection_pool=self.pool).register_script(_TAKE)

    def take(self, charges: Sequence[Charge]) -> Full | None:
        keys = [PREFIX + charge.key for charge in charges]
        bounds = [n for charge in charges for n in (charge.rate.most, charge.rate.seconds * 1000)]
        full, left = self._take(keys=keys, args=bounds)
        return Full(charges[full - 1], left / 1000) if full else None
