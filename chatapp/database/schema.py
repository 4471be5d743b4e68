"""What all tables share: their metadata, and how they keep JSON and moments."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

metadata: Final = sa.MetaData()
JSON: Final = sa.JSON(none_as_null=True)


def micros(moment: datetime | None = None) -> int:
    """A moment as the tables have it; None: the present one."""
    if moment is None:
        return time.time_ns() // 1000
    return (moment - EPOCH) // timedelta(microseconds=1)


def moment_of(count: int) -> datetime:
    """The moment that a table means."""
    # Exact: in this century a float of seconds is finer than a microsecond.
    return datetime.fromtimestamp(count / 1_000_000, UTC)
