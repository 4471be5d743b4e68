"""What SQLite and PostgreSQL do differently: connecting, beginning, telling that they are gone."""

import contextlib
import fcntl
import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import sqlalchemy as sa
from gevent import monkey
from sqlalchemy import exc
from sqlalchemy.pool import NullPool

from ..errors import ConfigError

LOCKED_MS: Final = 5000
"""How long SQLite waits for another process that writes."""
CONNECT_SECONDS: Final = 3
STATEMENT_SECONDS: Final = 3.0
"""How long PostgreSQL may take for one statement."""

# A native thread polls by itself: gevent's poll would give each thread an event loop.
_poll: Any = monkey.get_original("select", "poll")
READABLE: Final = 1
WRITABLE: Final = 2
"""As psycopg counts them."""
_EVENTS: Final = {
    READABLE: select.POLLIN,
    WRITABLE: select.POLLOUT,
    READABLE | WRITABLE: select.POLLIN | select.POLLOUT,
}
_READY: Final = {events: wanted for wanted, events in _EVENTS.items()}
"""Anything else is an error, which reading tells."""


class Dialect(Protocol):
    """How one kind of database is used."""

    writers: int | None
    """How many may write at once; None: any number."""
    single: bool
    """Whether all use one connection, for the data lives in it."""

    def engine(self, *, patient: bool = False) -> sa.Engine:
        """An engine that keeps no connections.

        :param patient: let statements take their time.
        """

    def begin(self, connection: sa.Connection, read_only: bool, /) -> None:
        """Begin what SQLAlchemy has begun."""

    def alive(self, connection: sa.Connection, /) -> bool:
        """Whether an idle connection looks usable; asks nobody."""

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Held while connecting for the first time: by one process at a time."""

    def everywhere(self, error: Exception, /) -> bool:
        """Whether an error tells that the next attempt fails, too, and not only this statement."""


def dialect_of(url: str) -> Dialect:
    """:raises ConfigError: a URL that is none, or of another database."""
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError:
        # Not quoted: it may hold a password.
        raise ConfigError(
            "CHATAPP_DATABASE_URL is no database URL; write sqlite:////path/chat.db "
            "or postgresql://user@host/name."
        ) from None
    backend = parsed.drivername.partition("+")[0]
    if backend == "sqlite":
        return SQLite(parsed)
    if backend in ("postgres", "postgresql"):
        return PostgreSQL(parsed.set(drivername="postgresql+psycopg"))
    raise ConfigError(f"There is no support for {backend} databases; use SQLite or PostgreSQL.")


class SQLite:
    """A file, written by one at a time, read by anybody meanwhile."""

    writers: int | None = 1

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        self.single = not url.database or url.database == ":memory:"

    def engine(self, *, patient: bool = False) -> sa.Engine:
        """:raises ConfigError: the file can't be made."""
        self._make_file()
        arguments = {
            "check_same_thread": False,
            "isolation_level": None,
            "timeout": LOCKED_MS / 1000 * (12 if patient else 1),
        }
        engine = sa.create_engine(self._url, poolclass=NullPool, connect_args=arguments)
        sa.event.listen(engine, "connect", _set_up_sqlite)
        return engine

    def __str__(self) -> str:
        return self._url.render_as_string()

    def begin(self, connection: sa.Connection, read_only: bool) -> None:
        # A transaction that reads and then writes fails at once when another one wrote in between.
        _driver(connection).execute("BEGIN" if read_only else "BEGIN IMMEDIATE")

    def alive(self, _connection: sa.Connection) -> bool:
        return True

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """A lock beside the file: the change to WAL and the first schema don't wait for others."""
        if self.single:
            yield
            return
        self._make_file()
        with open(f"{self._url.database}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def everywhere(self, _error: Exception) -> bool:
        return True

    def _make_file(self) -> None:
        """With our user's rights only; SQLite gives its other files the same."""
        if self.single:
            return
        path = Path(str(self._url.database))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise ConfigError(
                f"The database can't be kept in {path} ({error.strerror}). "
                "Set CHATAPP_DATABASE_URL, or make the folder writable."
            ) from None


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")
    # SQLite's own `lower` knows ASCII only.
    connection.create_function("chatapp_lower", 1, _lower, deterministic=True)


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


class PostgreSQL:
    """A server, through psycopg 3. It may stop in the middle of anything."""

    writers: int | None = None
    single = False

    def __init__(self, url: sa.URL) -> None:
        self._url = url

    def engine(self, *, patient: bool = False) -> sa.Engine:
        """:raises ConfigError: psycopg is not installed."""
        milliseconds = 0 if patient else round(STATEMENT_SECONDS * 1000)
        arguments: dict[str, Any] = {
            "connect_timeout": CONNECT_SECONDS,
            "tcp_user_timeout": round(STATEMENT_SECONDS * 1000),
            "keepalives_idle": 5,
            "application_name": "chatapp",
            "options": f"-c statement_timeout={milliseconds} "
            f"-c idle_in_transaction_session_timeout={milliseconds}",
        }
        given = {name: value for name, value in arguments.items() if name not in self._url.query}
        try:
            engine = sa.create_engine(self._url, poolclass=NullPool, connect_args=given)
        except ModuleNotFoundError:
            raise ConfigError(
                "PostgreSQL needs psycopg: install the extra `postgres` of this package."
            ) from None
        made = _connection_class(engine.dialect.loaded_dbapi, None if patient else 1)

        def connect(_dialect: Any, _record: Any, args: Any, parameters: Any) -> Any:
            return made.connect(*args, **parameters)

        sa.event.listen(engine, "do_connect", connect)
        return engine

    def __str__(self) -> str:
        return self._url.render_as_string()

    def begin(self, _connection: sa.Connection, _read_only: bool) -> None:
        pass  # psycopg begins with the first statement.

    def alive(self, connection: sa.Connection) -> bool:
        """A server that has gone has said so: there is something to read."""
        socket = _driver(connection).pgconn.socket
        poll = _poll()
        poll.register(socket, select.POLLIN)
        return not poll.poll(0)

    def alone(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def everywhere(self, error: Exception) -> bool:
        # Connection exceptions, operator intervention (a shutdown), too many connections; and what
        # the server has said nothing about.
        state = getattr(getattr(error, "orig", None), "sqlstate", None)
        return state is None or state.startswith(("08", "57P", "53"))


def _driver(connection: sa.Connection) -> Any:
    return connection.connection.driver_connection


def _connection_class(psycopg: Any, patience: float | None) -> Any:
    """A connection of psycopg's, whose every wait ends.

    A server that was stopped, or has vanished without a word, is otherwise waited for: the kernel
    still acknowledges what it is sent.

    :param patience: seconds beyond what a statement may take; None: wait for ever.
    """
    limit = None if patience is None else round((STATEMENT_SECONDS + patience) * 1000)

    class Connection(psycopg.Connection):  # type: ignore[misc] # known at run time only
        def wait(self, gen: Any, *_args: Any, **_options: Any) -> Any:
            socket, poll = self.pgconn.socket, _poll()
            try:
                poll.register(socket, _EVENTS[next(gen)])
                while True:
                    ready = poll.poll(limit)
                    if not ready:
                        self.pgconn.finish()
                        raise psycopg.OperationalError("the server does not answer")
                    poll.modify(socket, _EVENTS[gen.send(_READY.get(ready[0][1], READABLE))])
            except StopIteration as end:
                return end.value

    return Connection
