"""`flask chatapp …`: what an operator does to the database."""

from collections.abc import Callable

import click
from flask import Flask
from flask.cli import AppGroup

from .db import Database
from .errors import ChatAppError


def register(app: Flask, *databases: Database) -> None:
    """Add the commands, under one name, beside the application's own."""
    group = AppGroup("chatapp", help="The chat's database.")

    @group.command("migrate")
    def migrate() -> None:
        """Bring the schema up to date. May be repeated, also on several machines at once."""
        for database in databases:
            _do(database, database.migrate)

    @group.command("check")
    def check() -> None:
        """Tell, by the exit code, too, whether the schema is current."""
        for database in databases:
            _do(database, database.check)

    app.cli.add_command(group)


def _do(database: Database, work: Callable[[], None]) -> None:
    try:
        work()
    except ChatAppError as error:
        raise click.ClickException(f"{database}: {error.message}") from None
    click.echo(f"{database}: the schema is current.")
