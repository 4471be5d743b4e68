"""`flask chatapp …`: the operator's commands for the database."""

from collections.abc import Callable
from typing import Final

import click
from flask import Flask
from flask.cli import AppGroup

from .database.database import Database
from .errors import ChatAppError

NAME: Final = "chatapp"


class Commands(AppGroup):
    """The commands, which work on the databases of all chats of an application."""

    def __init__(self) -> None:
        super().__init__(NAME, help="The databases of the chats.")
        self.databases: list[Database] = []

        @self.command("migrate")
        def migrate() -> None:
            """Bring the schema up to date. May be repeated, also on several machines together."""
            for database in self.databases:
                _do(database, database.migrate)

        @self.command("check")
        def check() -> None:
            """Say, also by the exit code, whether the schema is current."""
            for database in self.databases:
                _do(database, database.check)


def register(app: Flask, *databases: Database) -> None:
    """Add the commands, under one name, beside the application's own."""
    commands = app.cli.commands.get(NAME)
    if not isinstance(commands, Commands):
        commands = Commands()
        app.cli.add_command(commands)
    commands.databases += databases


def _do(database: Database, work: Callable[[], None]) -> None:
    try:
        work()
    except ChatAppError as error:
        raise click.ClickException(f"{database}: {error.message}") from None
    click.echo(f"{database}: the schema is current.")
