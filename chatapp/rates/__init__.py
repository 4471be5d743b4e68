"""Counts of what was done in a while, in memory, in the database or in Redis.

Each place counts all that one request is charged to in one step: either nothing is full, and all
counts rise, or none does. So parallel requests can't pass together, and who is refused leaves no
entry. Windows are fixed: one starts with its first charge and ends as a whole.
"""

from ..database.database import Database
from ..errors import ConfigError
from .base import Charge as Charge
from .base import Counts as Counts
from .base import Full as Full
from .base import Rate as Rate
from .base import parse_rates as parse_rates
from .memory import MemoryCounts
from .redis import RedisCounts
from .sql import SqlCounts as SqlCounts

SCHEMES = ("redis", "rediss", "unix", "valkey")


def open_counts(url: str | None, database: Database) -> Counts:
    """The counts at an address; None: those in the database.

    :raises ConfigError: the address can't be used; the message does not quote it, as it may have a
        password.
    """
    if url is None:
        return SqlCounts(database)
    scheme, colon, _ = url.partition(":")
    if url == "memory://":
        return MemoryCounts()
    if colon and scheme in SCHEMES:
        return RedisCounts(url)
    raise ConfigError(
        f"CHATAPP_RATE_LIMIT_STORAGE={scheme}:… can't be used. Write redis://host:6379 or "
        "memory://, or unset it: then the database counts."
    )
