"""A limit of time for what reads a lot."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc

STEPS: Final = 10_000
"""Steps of SQLite's machine between looks at the clock."""


class TookTooLong(Exception):
    """The database was stopped in its work."""


@contextlib.contextmanager
def time_limit(connection: sa.Connection, seconds: float) -> Iterator[None]:
    """Stop the database's work on this connection after some time.

    :raises TookTooLong: it was stopped; the transaction can't go on.
    """
    deadline = time.monotonic() + seconds
    driver: Any = connection.connection.driver_connection
    if sqlite := connection.dialect.name == "sqlite":
        driver.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
    else:
        milliseconds = max(round(seconds * 1000), 1)
        connection.execute(sa.text(f"SET LOCAL statement_timeout = {milliseconds}"))
    try:
        yield
    except exc.OperationalError as error:
        if time.monotonic() < deadline:
            raise
        raise TookTooLong from error
    finally:
        if sqlite:
            driver.set_progress_handler(None, 0)
