"""Counts in the database, for all workers that use it."""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ..database.database import Database
from ..database.schema import metadata, micros
from .base import Charge, Full, longest

RATES: Final = sa.Table(
    "chatapp_rates",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("ends_at", sa.BigInteger, nullable=False),
    sa.Column("used", sa.Integer, nullable=False),
    sa.Index("chatapp_rates_ends", "ends_at"),
)
MAX_ROWS: Final = 200_000
"""Beyond, the counts go first that would end first."""

_now: Final = sa.bindparam("now", type_=sa.BigInteger)
_FIND: Final = sa.select(RATES).where(
    RATES.c.key.in_(sa.bindparam("keys", expanding=True)), RATES.c.ends_at > _now
)
_is_over = RATES.c.ends_at <= _now


def _add(dialect: Any) -> Any:
    new = dialect.insert(RATES).values(used=1)
    return new.on_conflict_do_update(
        index_elements=["key"],
        set_={
            "used": sa.case((_is_over, 1), else_=RATES.c.used + 1),
            "ends_at": sa.case((_is_over, new.excluded.ends_at), else_=RATES.c.ends_at),
        },
    ).returning(RATES.c.used, RATES.c.ends_at)


_ADD: Final = {"sqlite": _add(sqlite), "postgresql": _add(postgresql)}
_DROP: Final = sa.delete(RATES).where(_is_over)
_COUNT: Final = sa.select(sa.func.count()).select_from(RATES)
_DROP_SOME: Final = sa.delete(RATES).where(
    RATES.c.key.in_(sa.select(RATES.c.key).order_by(RATES.c.ends_at).limit(sa.bindparam("some")))
)


class _Refused(Exception):
    """Rolls back what the transaction has counted."""


class SqlCounts:
    """Each request is a transaction, which is rolled back if a count is full."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, charges: Sequence[Charge]) -> Full | None:
        # Always in the same order: two transactions then can't wait for each other.
        ordered = sorted(charges)
        # Whoever is refused does not hold up who writes.
        if full := self._database.run(lambda c: _look(c, ordered), read_only=True):
            return full

        def work(connection: sa.Connection) -> None:
            if full := _take(connection, ordered):
                raise _Refused(full)

        try:
            self._database.run(work)
        except _Refused as refused:
            found: Full = refused.args[0]
            return found
        return None

    def tidy(self) -> None:
        """Drop counts that are over, and some more if there are too many.

        :raises StorageUnavailable:
        """

        def work(connection: sa.Connection) -> None:
            connection.execute(_DROP, {"now": micros()})
            if (more := (connection.scalar(_COUNT) or 0) - MAX_ROWS) > 0:
                connection.execute(_DROP_SOME, {"some": more})

        self._database.run(work)


def _look(connection: sa.Connection, charges: Sequence[Charge]) -> Full | None:
    now = micros()
    given = {"keys": [charge.key for charge in charges], "now": now}
    found = {row.key: row for row in connection.execute(_FIND, given)}
    return longest(
        [
            Full(charge, (found[charge.key].ends_at - now) / 1_000_000)
            for charge in charges
            if charge.key in found and found[charge.key].used >= charge.rate.most
        ]
    )


def _take(connection: sa.Connection, charges: Sequence[Charge]) -> Full | None:
    now = micros()
    for charge in charges:
        ends = now + charge.rate.seconds * 1_000_000
        given = {"key": charge.key, "ends_at": ends, "now": now}
        row = connection.execute(_ADD[connection.dialect.name], given).one()
        if row.used > charge.rate.most:
            return Full(charge, (row.ends_at - now) / 1_000_000)
    return None
