"""SQLAlchemy's engines, made so that native threads may use them."""

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from ..runtime.native import Lock, mute


def make_engine(url: sa.URL, arguments: dict[str, Any]) -> sa.Engine:
    """An engine that keeps no connections. Must be made where logging is allowed.

    :param arguments: for the driver's `connect`.
    """
    engine = sa.create_engine(
        url,
        poolclass=NullPool,
        connect_args=arguments,
        query_cache_size=0,
        json_serializer=_json,
    )
    # SQLAlchemy's own cache of statements has a lock. Ours are few, so they need no limit.
    engine.update_execution_options(compiled_cache={})
    events: Any = engine.pool.dispatch
    for event in (events.connect, events.first_connect):
        event.for_modify(events)._exec_once_mutex = Lock()
    mute("sqlalchemy", "psycopg")
    return engine


def _json(value: Any) -> str:
    """In UTF-8: an escape would take up to six times the room."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
