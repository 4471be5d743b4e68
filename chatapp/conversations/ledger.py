"""One entry per upstream call, however it ended: everything that may be billed.

Entries outlive their conversations.
"""

import itertools
import secrets
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from ..answers.outcome import Outcome
from ..database.database import Database
from ..database.schema import micros
from .tables import calls

PRUNE_SECONDS: Final = 3600.0
"""Seconds between removals of old entries."""

_OPEN: Final = sa.insert(calls)
_CLOSE: Final = sa.update(calls).where(
    calls.c.answer_id == sa.bindparam("of_answer"), calls.c.ended_at.is_(None)
)
_PRUNE: Final = sa.delete(calls).where(calls.c.started_at < sa.bindparam("before"))
_SUM: Final = sa.select(sa.func.coalesce(sa.func.sum(calls.c.total_tokens), 0)).where(
    calls.c.owner == sa.bindparam("owner"), calls.c.started_at >= sa.bindparam("since")
)


class Opened(NamedTuple):
    """A call that has begun."""

    answer_id: str
    owner: str
    model: str | None
    started_at: int
    """Microseconds, as from `micros`."""


class Closed(NamedTuple):
    """How an answer's call ended."""

    answer_id: str
    status: str
    """The answer's last status, or how else the call ended: `refused`, `tool_calls`…"""
    outcome: Outcome = Outcome()
    model: str | None = None
    """The model that was called in the end; None: the one given at the beginning."""


class Ledger:
    """The calls of all processes.

    :param max_age: seconds after which an entry is removed.
    """

    def __init__(self, database: Database, max_age: float) -> None:
        self._database = database
        self._max_age = max_age
        self._prune_at = time.monotonic()

    def note(self, entries: Sequence[Opened | Closed]) -> None:
        """Record calls that have begun and calls that have ended, in this order.

        :raises StorageUnavailable:
        """

        def work(connection: sa.Connection) -> None:
            # Consecutive openings are recorded by one statement.
            for _, group in itertools.groupby(entries, type):
                same = list(group)
                if opened := [_entry(*each) for each in same if isinstance(each, Opened)]:
                    connection.execute(_OPEN, opened)
                for closed in (each for each in same if isinstance(each, Closed)):
                    self.close_call(connection, closed)

        self._database.run(work)

    def usage_since(self, owner: str, moment: datetime) -> int:
        """The tokens of an owner's calls that began since `moment` and have ended.

        :raises StorageUnavailable:
        """
        given = {"owner": owner, "since": micros(moment)}
        return int(self._database.run(lambda c: c.scalar(_SUM, given), read_only=True) or 0)

    def close_call(self, connection: sa.Connection, closed: Closed) -> None:
        """Record the end of an answer's open call, inside a transaction."""
        usage = closed.outcome.usage
        fields: dict[str, Any] = {
            "of_answer": closed.answer_id,
            "ended_at": micros(),
            "outcome": closed.status,
            "usage": usage,
            "usage_source": closed.outcome.usage_source,
            "total_tokens": (usage or {}).get("total_tokens", 0),
        }
        connection.execute(_CLOSE, fields | ({"model": closed.model} if closed.model else {}))
        if time.monotonic() >= self._prune_at:
            self._prune_at = time.monotonic() + PRUNE_SECONDS
            before = micros() - round(self._max_age * 1_000_000)
            connection.execute(_PRUNE, {"before": before})


def opened(connection: sa.Connection, answer_id: str, owner: str, model: str | None) -> None:
    """Record the beginning of a call, inside a transaction."""
    connection.execute(_OPEN, _entry(answer_id, owner, model, micros()))


def _entry(answer_id: str, owner: str, model: str | None, started_at: int) -> dict[str, Any]:
    return {
        "id": secrets.token_urlsafe(12),
        "answer_id": answer_id,
        "owner": owner,
        "model": model,
        "started_at": started_at,
        "total_tokens": 0,
    }
