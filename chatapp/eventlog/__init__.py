"""The event log: every answer's events, kept where all workers can read them."""

from collections.abc import Callable
from typing import Final

from ..database.database import Database
from ..errors import ConfigError
from .base import EventLog, PendingMessage, PublishedMessage, Record, Segment, State, Written
from .memory import MemoryEventLog
from .redis.backend import RedisEventLog
from .sql.backend import SqlEventLog

__all__ = [
    "EventLog",
    "MemoryEventLog",
    "PendingMessage",
    "PublishedMessage",
    "Record",
    "RedisEventLog",
    "Segment",
    "SqlEventLog",
    "State",
    "Written",
    "needs_database",
    "open_event_log",
]


SCHEMES: Final[dict[str, Callable[[str], EventLog]]] = {
    "memory": lambda _url: MemoryEventLog(),
    "redis": RedisEventLog,
    "rediss": RedisEventLog,
    "unix": RedisEventLog,
}
"""Opens a URL that is not a database's."""


def needs_database(url: str) -> bool:
    """Whether a URL is a database's, or invalid."""
    return url.partition(":")[0] not in SCHEMES


def open_event_log(url: str, database: Database | None) -> EventLog:
    """The event log that a URL stands for.

    :param url: `memory://`; `redis://…`, `rediss://…`, or `unix://…` for a socket of Redis; or a
        database's.
    :param database: the one that `url` names, if it is a database's.
    :raises ConfigError: the URL is not supported, or needs a package that is not installed.
    """
    if not needs_database(url):
        return SCHEMES[url.partition(":")[0]](url)
    if database is None:
        raise ConfigError(
            f"The event log can't be stored at {url.partition(':')[0]}://…. Use memory://, "
            "redis://, rediss:// or a database's URL."
        )
    return SqlEventLog(database)
