"""The database: one unit of work at a time, in a transaction of its own.

A unit of work runs in a native thread of this module's own: a busy or a vanished database then
stops no greenlet but the one that asked. It must not switch greenlets, for while SQLite waits for a
lock in C, nobody else of the same thread could release it; nor may it log (`runtime.native`).
Un-patched it runs where it is called.
"""

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from ..errors import ConfigError, StorageUnavailable
from ..runtime.executor import Executor, executor
from ..runtime.setup_fault import SetupFault
from . import migrations
from .dialects import Dialect, FileReplaced, dialect_of

logger = logging.getLogger(__name__)

T = TypeVar("T")

DRIVER_ERRORS: Final = (exc.DBAPIError, sqlite3.Error)
NOT_PASSING: Final = (exc.DataError, exc.IntegrityError, exc.ProgrammingError)
"""Errors that trying again does not help against."""
UNAVAILABLE: Final = "What is stored here can't be reached at the moment. Try again in 2 s."
RETRY_SECONDS: Final = 2


class Database:
    """A database, reached by at most `pool` connections of this process.

    The first use connects, and checks the schema. A process that was forked begins anew.

    :param url: as SQLAlchemy has it; `postgres://` and `postgresql://` mean psycopg 3.
    :param pool: connections. One of SQLite's is for writing, which only one can do at a time; the
        others read meanwhile.
    :param migrates: bring the schema up to date at the first use, instead of refusing to work.
    :raises ConfigError: a URL that is none, or of another database.
    """

    def __init__(self, url: str, pool: int = 1, *, migrates: bool = False) -> None:
        self._dialect: Dialect = dialect_of(url)
        self._size = 1 if self._dialect.single else pool
        self._migrates = migrates
        self._lock = threading.Lock()
        self._pools: _Pools | None = None
        self._failed_at = -1.0
        self.fault = SetupFault()

    def __str__(self) -> str:
        """The URL, without its password."""
        return str(self._dialect)

    def run(self, work: Callable[[sa.Connection], T], *, read_only: bool = False) -> T:
        """What `work` returns, when its transaction is committed.

        What it raises rolls its transaction back.

        :param read_only: `work` writes nothing, so it need not wait for who does.
        :raises StorageUnavailable: the database can't be reached, or was locked for too long. What
            has become of the work is then unknown. `Misconfigured`: it won't work by itself.
        """
        asked_at = time.monotonic()
        with self.fault.watch():
            pools = self._opened(asked_at)
            try:
                return self._run(pools, work, read_only, asked_at)
            except FileReplaced:
                logger.warning("%s was replaced; its connections are made anew", self)
                self._drop(pools)
                return self._run(self._opened(asked_at), work, read_only, asked_at)

    def run_here(self, work: Callable[[sa.Connection], T]) -> T | None:
        """As `run`, on a connection made for it, in whatever native thread this is.

        :returns: None where the database was not used yet, or is in memory.
        :raises StorageUnavailable:
        """
        pools = self._pools
        if pools is None or not pools.ready or pools.pid != os.getpid() or self._dialect.single:
            return None

        def unit() -> T:
            self._dialect.check_place()
            with pools.engine.connect() as connection, connection.begin():
                self._dialect.begin(connection, False)
                return work(connection)

        try:
            return self._guarded(unit, time.monotonic())
        except (ConfigError, FileReplaced) as error:
            raise StorageUnavailable(UNAVAILABLE) from error

    def probe(self) -> None:
        """Use it without doing anything.

        :raises StorageUnavailable: as `run`.
        """
        self.run(lambda _: None, read_only=True)

    def check(self) -> None:
        """:raises ConfigError: the schema is not current; the message says what to do."""
        self._once(migrations.check, patient=False)

    def migrate(self) -> None:
        """Bring the schema up to date. Several processes may do so at the same time.

        :raises ConfigError: the schema is of a later version than this software.
        """
        migrations.load()
        self._once(self._migrate, patient=True)

    def close(self) -> None:
        """Close the connections; the next use opens others."""
        if pools := self._pools:
            self._drop(pools)

    def _run(
        self, pools: "_Pools", work: Callable[[sa.Connection], T], read_only: bool, asked_at: float
    ) -> T:
        pool = pools.reading if read_only else pools.writing

        def unit() -> T:
            self._dialect.check_place()
            with pool.connection() as connection, connection.begin():
                self._dialect.begin(connection, read_only)
                return work(connection)

        return self._call(pool.executor, unit, asked_at)

    def _opened(self, asked_at: float) -> "_Pools":
        """The connections, once the schema was seen to be right."""
        pools = self._pools
        if pools is not None and pools.ready and pools.pid == os.getpid():
            return pools
        with self._lock:
            pools = self._pools
            if pools is None or pools.pid != os.getpid():
                pools = self._pools = _Pools(self._dialect, self._size)
            if not pools.ready:
                first = pools.writing
                if self._migrates:
                    self._bring_up_to_date(first, asked_at)
                self._call(first.executor, lambda: self._prepare(first, migrations.check), asked_at)
                # A file that takes this one's place is somebody's, and is left as it is.
                pools.ready, self._migrates = True, False
            return pools

    def _bring_up_to_date(self, pool: "_Pool", asked_at: float) -> None:
        def lacks() -> bool:
            return self._prepare(pool, migrations.lacks_versions)

        if self._call(pool.executor, lacks, asked_at):
            migrations.load()
            self._call(pool.executor, lambda: self._prepare(pool, self._migrate), asked_at)

    def _prepare(self, pool: "_Pool", work: Callable[[sa.Connection], T]) -> T:
        with self._dialect.alone(), pool.connection() as connection:
            result = work(connection)
            connection.rollback()
            return result

    def _migrate(self, connection: sa.Connection) -> None:
        with connection.begin():
            self._dialect.begin(connection, False)
            migrations.migrate(connection)

    def _once(self, work: Callable[[sa.Connection], None], *, patient: bool) -> None:
        """Do something on a connection of its own, whatever the schema is like."""
        engine = self._dialect.engine(patient=patient)

        def whole() -> None:
            with self._dialect.alone(), engine.connect() as own:
                work(own)

        self._call(executor(1), whole, time.monotonic())

    def _drop(self, pools: "_Pools") -> None:
        with self._lock:
            if self._pools is not pools:
                return
            self._pools = None
        if pools.pid == os.getpid():
            for pool in {pools.reading, pools.writing}:
                pool.executor.call(pool.close)

    def _call(self, where: Executor, work: Callable[[], T], asked_at: float) -> T:
        """Do it there, and log here what goes wrong."""
        try:
            return where.call(lambda: self._guarded(work, asked_at))
        except StorageUnavailable as error:
            if error.seen:
                logger.warning("the database does not do its work: %s", error.seen)
            raise

    def _guarded(self, work: Callable[[], T], asked_at: float) -> T:
        """Do it, with drivers' errors as ours.

        Those who waited behind an attempt that failed fail with it: each would wait for a time-out
        of its own, one after the other.
        """
        if asked_at < self._failed_at:
            raise StorageUnavailable(UNAVAILABLE, retry_after=RETRY_SECONDS)
        try:
            return work()
        except DRIVER_ERRORS as error:
            cause = self._dialect.scrubbed(_cause(error))
            if self._dialect.set_up_wrong(error):
                raise ConfigError(f"The database {self} can't be used: {cause}.") from error
            if isinstance(error, NOT_PASSING):
                raise
            if self._dialect.everywhere(error):
                self._failed_at = time.monotonic()
            raise StorageUnavailable(UNAVAILABLE, retry_after=RETRY_SECONDS, seen=cause) from error


class _Pools:
    """The connections of one process."""

    def __init__(self, dialect: Dialect, size: int) -> None:
        self.pid = os.getpid()
        self.ready = False
        self.engine = dialect.engine()
        self.writing = self.reading = _Pool(dialect, self.engine, dialect.writers or size)
        if dialect.writers and size > dialect.writers:
            self.reading = _Pool(dialect, self.engine, size - dialect.writers)


class _Pool:
    """Connections, one for each thread of the executor; nothing else uses them."""

    def __init__(self, dialect: Dialect, engine: sa.Engine, width: int) -> None:
        self.executor: Executor = executor(width)
        self._dialect = dialect
        self._engine = engine
        self._idle: list[sa.Connection] = []

    @contextlib.contextmanager
    def connection(self) -> Iterator[sa.Connection]:
        """One that nobody uses. After a driver's error it is not used again."""
        connection = self._take()
        try:
            yield connection
        except DRIVER_ERRORS as error:
            if isinstance(error, NOT_PASSING):
                self._idle.append(connection)
            else:
                connection.invalidate()
                connection.close()
            raise
        except BaseException:
            self._idle.append(connection)
            raise
        self._idle.append(connection)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> sa.Connection:
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._engine.connect()
        if not self._dialect.alive(connection):
            connection.invalidate()
        return connection


def _cause(error: Exception) -> str:
    """What the driver said, on one line, without the statement and its values."""
    return " ".join(str(getattr(error, "orig", error)).split())
