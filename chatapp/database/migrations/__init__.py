"""The schema and its versions: whether a database has the current one, and how it gets there.

Alembic's folder; its version table has a name of its own, for a host's database may have another.
"""

import importlib
from typing import Final

import sqlalchemy as sa

from ...errors import ConfigError

HEAD: Final = "0004"
"""The version that this software needs."""
UPGRADE: Final = ".upgrade"
VERSION_TABLE: Final = "chatapp_schema"
ADVISORY_LOCK: Final = 0x63686174
"""Held in PostgreSQL while the schema changes: any number that is always the same."""


def version(connection: sa.Connection) -> str | None:
    """The schema's version; None: there is none."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 - a constant
    return found


def check(connection: sa.Connection) -> None:
    """:raises ConfigError: the schema is not current; the message says what to do."""
    found = version(connection)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise ConfigError(
            f"The database has schema {found}, later than {HEAD}, which this version of the "
            "software knows. Install the version that made it."
        )
    have = f"has schema {found}" if found else "has no schema"
    raise ConfigError(
        f"The database {have}, and {HEAD} is needed. Run `flask --app wsgi chatapp migrate`, "
        "with your own application's name for wsgi."
    )


def lacks_versions(connection: sa.Connection) -> bool:
    """Whether there is something for `migrate` to do."""
    found = version(connection)
    return found is None or found < HEAD


def load() -> None:
    """Load Alembic, which those only need who migrate. Not for native threads, as `migrate` is."""
    importlib.import_module(UPGRADE, __package__)


def migrate(connection: sa.Connection) -> None:
    """Bring the schema to the current version, in the transaction that has begun.

    :raises ConfigError: the schema is of a later version than this software.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
    if lacks_versions(connection):
        importlib.import_module(UPGRADE, __package__).upgrade(connection, VERSION_TABLE)
    check(connection)
