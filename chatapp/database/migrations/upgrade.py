"""Runs the versions that a database lacks, by Alembic."""

from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import ScriptDirectory

from ...runtime.native import Lock, mute

# `alembic.op`, by which the versions speak to their connection, is one for the whole process.
_ONE_AT_A_TIME: Final = Lock()
mute("alembic")


def scripts() -> ScriptDirectory:
    """The versions in this folder."""
    return ScriptDirectory(str(Path(__file__).parent))


def upgrade(connection: sa.Connection, version_table: str, to: str = "head") -> None:
    """All of them, or as far as the version `to`, in the transaction that has begun."""
    versions = scripts()

    def steps(revision: object, _context: MigrationContext) -> list[RevisionStep]:
        return versions._upgrade_revs(to, revision)  # type: ignore[arg-type]

    with _ONE_AT_A_TIME, EnvironmentContext(Config(), versions, fn=steps) as environment:
        environment.configure(connection=connection, version_table=version_table)
        environment.run_migrations()
