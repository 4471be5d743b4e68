"""The event log: every answer's events, kept where all workers can read them."""

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
    "open_event_log",
]


def open_event_log(url: str, database: Database | None) -> EventLog:
    """The event log that a URL stands for.

    :param url: `memory://`; `redis://…`, `rediss://…`, or `unix://…` for a socket of Redis; or a
        database's.
    :param database: the one that `url` means, if it is a database's.
    :raises ConfigError: there is no such event log, or what it needs is not installed.
    """
    scheme = url.partition(":")[0]
    if scheme == "memory":
        return MemoryEventLog()
    if scheme in ("redis", "rediss", "unix"):
        return RedisEventLog(url)
    if database is None:
        raise ConfigError(
            f"The event log can't be kept at {scheme}://…; use memory://, redis://, rediss:// or "
            "a database's URL."
        )
    return SqlEventLog(database)
