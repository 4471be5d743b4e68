"""SQLAlchemy's engines, made so that native threads may use them."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from ..runtime.native import Lock, mute


def make_engine(url: sa.URL, arguments: dict[str, Any]) -> sa.Engine:
    """An engine that keeps no connections. Must be made where logging is allowed.

    :param arguments: for the driver's `connect`.
    """
    engine = sa.create_engine(url, poolclass=NullPool, connect_args=arguments, query_cache_size=0)
    # SQLAlchemy's own cache of statements has a lock. Ours are few, so they need no limit.
    engine.update_execution_options(compiled_cache={})
    events: Any = engine.pool.dispatch
    for event in (events.connect, events.first_connect):
        event.for_modify(events)._exec_once_mutex = Lock()
    mute("sqlalchemy", "psycopg")
    return engine
