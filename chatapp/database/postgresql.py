"""PostgreSQL, through psycopg 3: a server that may stop in the middle of anything."""

import contextlib
import re
import select
import time
from typing import Any, Final

import sqlalchemy as sa

from ..errors import ConfigError
from ..runtime import native
from .engines import make_engine

CONNECT_SECONDS: Final = 3
STATEMENT_SECONDS: Final = 3.0
"""How long the server may take for one statement."""

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

_REFUSED: Final = re.compile(
    r"authentication failed|no password supplied|pg_hba\.conf"
    r"|(role|user|database) \".*\" does not exist|permission denied"
    r"|does not support SSL|certificate"
)
"""A connection that fails has no code, only a sentence. One in another language is taken for a
server that is away."""
_SET_UP_WRONG: Final = ("28", "3D", "3F", "42501", "42703", "42P01")
"""Authorization, no such database or schema, no right, no such column or table."""
_AWAY: Final = ("08", "57P", "53")
"""Connection exceptions, operator intervention (a shutdown), too many connections."""


class PostgreSQL:
    """One database of a server."""

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
            engine = make_engine(self._url, given)
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

    def check_place(self) -> None:
        pass

    def begin(self, _connection: sa.Connection, _read_only: bool) -> None:
        pass  # psycopg begins with the first statement.

    def alive(self, connection: sa.Connection) -> bool:
        """A server that has gone has said so: there is something to read."""
        driver: Any = connection.connection.driver_connection
        poll = native.poll()
        poll.register(driver.pgconn.socket, select.POLLIN)
        return not poll.poll(0)

    def alone(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def everywhere(self, error: Exception) -> bool:
        # Also what the server has said nothing about.
        state = _state(error)
        return state is None or state.startswith(_AWAY)

    def set_up_wrong(self, error: Exception) -> bool:
        state = _state(error)
        if state is None:
            return bool(_REFUSED.search(str(getattr(error, "orig", error))))
        return state.startswith(_SET_UP_WRONG)

    def scrubbed(self, text: str) -> str:
        password = self._url.password
        return text.replace(password, "***") if password else text


def _state(error: Exception) -> str | None:
    """The SQLSTATE that the server gave."""
    state: str | None = getattr(getattr(error, "orig", None), "sqlstate", None)
    return state


def _connection_class(psycopg: Any, patience: float | None) -> Any:
    """A connection of psycopg's, whose every wait ends, and is native.

    A server that was stopped, or has vanished without a word, is otherwise waited for: the kernel
    still acknowledges what it is sent.

    :param patience: seconds beyond what a statement may take; None: wait for ever.
    """
    limit = None if patience is None else STATEMENT_SECONDS + patience
    seconds_to_connect = psycopg.conninfo.timeout_from_conninfo
    parsed = psycopg.conninfo.conninfo_to_dict

    class Connection(psycopg.Connection):  # type: ignore[misc] # known at run time only
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.lock = native.Lock()

        @classmethod
        def _connect_gen(cls, conninfo: str = "", *args: Any) -> Any:
            yield from ()  # psycopg has to wait for nothing: that is done here.
            seconds = seconds_to_connect(parsed(conninfo))
            connection = _connected(super()._connect_gen(conninfo, *args), seconds)
            if connection is None:
                raise psycopg.errors.ConnectionTimeout("the server does not answer")
            return connection

        def wait(self, gen: Any, *_args: Any, **_options: Any) -> Any:
            socket = self.pgconn.socket
            try:
                events = next(gen)
                while True:
                    ready = _wait(socket, events, limit)
                    if not ready:
                        self.pgconn.finish()
                        raise psycopg.OperationalError("the server does not answer")
                    events = gen.send(ready)
            except StopIteration as end:
                return end.value

    return Connection


def _connected(steps: Any, seconds: float) -> Any:
    """The connection that psycopg's steps lead to; None: the server did not answer in time."""
    deadline = time.monotonic() + seconds
    try:
        socket, events = next(steps)
        while ready := _wait(socket, events, max(deadline - time.monotonic(), 0)):
            socket, events = steps.send(ready)
    except StopIteration as end:
        return end.value
    return None


def _wait(socket: int, events: int, seconds: float | None) -> int:
    """What a socket is ready for, as psycopg counts it; 0: nothing, in all of that time."""
    poll = native.poll()
    poll.register(socket, _EVENTS[events])
    ready = poll.poll(None if seconds is None else round(seconds * 1000))
    return _READY.get(ready[0][1], READABLE) if ready else 0
