"""`flask chatapp …`: what an operator does to the storage."""

from collections.abc import Callable
from typing import Final, TypeVar

import click
from flask import Flask
from flask.cli import AppGroup

from .database.database import Database
from .errors import ChatAppError, StorageUnavailable
from .eventlog import EventLog, MemoryEventLog, RedisEventLog

NAME: Final = "chatapp"

T = TypeVar("T")


class Commands(AppGroup):
    """The commands, which go over the storages of all chats of an application."""

    def __init__(self) -> None:
        super().__init__(NAME, help="The databases and event logs of the chats.")
        self.databases: list[Database] = []
        self.event_logs: list[RedisEventLog] = []
        self.repairs: list[tuple[EventLog, Callable[[], int]]] = []

        @self.command("migrate")
        def migrate() -> None:
            """Bring the schema up to date. May be repeated, also on several machines together."""
            for database in self.databases:
                _do(database, database.migrate, "the schema is current")

        @self.command("check")
        def check() -> None:
            """Tell, by the exit code, too, whether all can be reached and the schema is current."""
            for database in self.databases:
                _do(database, database.check, "the schema is current")
            for log in self.event_logs:
                _do(log, log.check, "it answers")

        @self.command("repair")
        @click.option("--stopped", is_flag=True, help="No server runs, so nobody writes anything.")
        def repair(stopped: bool) -> None:
            """End the messages that nobody writes any more. What is written stays."""
            for log, end_unwritten in self.repairs:
                if isinstance(log, MemoryEventLog) and not stopped:
                    raise click.ClickException(
                        "The event log is in the server's memory, so nobody here can tell what "
                        "it writes. Stop the server, and add --stopped."
                    )
                click.echo(f"messages that were ended: {_result(log, end_unwritten)}")


def register(app: Flask, *databases: Database) -> Commands:
    """Add the commands, under one name, beside the application's own."""
    commands = app.cli.commands.get(NAME)
    if not isinstance(commands, Commands):
        commands = Commands()
        app.cli.add_command(commands)
    commands.databases += databases
    return commands


def _do(storage: object, work: Callable[[], None], done: str) -> None:
    _result(storage, work)
    click.echo(f"{storage}: {done}.")


def _result(storage: object, work: Callable[[], T]) -> T:
    try:
        return work()
    except ChatAppError as error:
        cause = error.seen if isinstance(error, StorageUnavailable) else ""
        raise click.ClickException(f"{storage}: {cause or error.message}") from None
