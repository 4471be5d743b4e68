"""What SQLite and PostgreSQL do differently: connecting, beginning, telling that they are gone.

Here is SQLite's part.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, Protocol

import sqlalchemy as sa
from sqlalchemy import exc

from ..errors import ConfigError
from ..runtime.own_files import keep_private, make_folder, open_own
from .engines import make_engine
from .postgresql import PostgreSQL

LOCKED_MS: Final = 5000
"""How long SQLite waits for another process that writes."""
SYNCHRONOUS: Final = ("NORMAL", "FULL", "EXTRA")
"""How surely a commit is on the disk: with the first, the last ones may go with the power."""
_SET_UP_WRONG: Final = ("SQLITE_READONLY", "SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_PERM")
_NO_TABLE: Final = ("no such table", "no such column", "has no column")


class FileReplaced(Exception):
    """Another file is where the open one was."""


class Dialect(Protocol):
    """How one kind of database is used."""

    writers: int | None
    """How many may write at once; None: any number."""
    single: bool
    """Whether all use one connection, for the data lives in it."""

    def engine(self, *, patient: bool = False) -> sa.Engine:
        """An engine that keeps no connections. Not for native threads to make.

        :param patient: let statements take their time.
        """

    def check_place(self) -> None:
        """Look whether what is open is still where it was; asks nobody.

        :raises ConfigError: it is gone.
        :raises FileReplaced: something else is there.
        """

    def begin(self, connection: sa.Connection, read_only: bool, /) -> None:
        """Begin what SQLAlchemy has begun."""

    def alive(self, connection: sa.Connection, /) -> bool:
        """Whether an idle connection looks usable; asks nobody."""

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Held while connecting for the first time: by one process at a time."""

    def everywhere(self, error: Exception, /) -> bool:
        """Whether an error tells that the next attempt fails, too, and not only this statement."""

    def set_up_wrong(self, error: Exception, /) -> bool:
        """Whether an error tells that somebody has to set something right."""

    def scrubbed(self, text: str, /) -> str:
        """What a driver has said, without the password."""


def dialect_of(url: str) -> Dialect:
    """:raises ConfigError: a URL that is none, or of another database."""
    try:
        parsed = sa.make_url(url)
    except (exc.ArgumentError, ValueError):
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
        self._synchronous = str(url.query.get("synchronous", "NORMAL")).upper()
        if self._synchronous not in SYNCHRONOUS:
            raise ConfigError(f"?synchronous= of {url} must be one of {', '.join(SYNCHRONOUS)}.")
        self._url = url.difference_update_query(["synchronous"])
        self._path = Path(str(url.database))
        self.single = not url.database or url.database == ":memory:"
        self._file: tuple[int, int] | None = None
        """Device and inode of the file that is open."""
        self._log: tuple[int, int] | None = None
        """The same of the write-ahead log beside it."""

    def engine(self, *, patient: bool = False) -> sa.Engine:
        arguments = {
            "check_same_thread": False,
            "isolation_level": None,
            "timeout": LOCKED_MS / 1000 * (12 if patient else 1),
        }
        engine = make_engine(self._url, arguments)

        def set_up(connection: Any, _record: object) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            connection.execute("PRAGMA foreign_keys=ON")
            # SQLite's own `lower` knows ASCII only.
            connection.create_function("chatapp_lower", 1, _lower, deterministic=True)

        sa.event.listen(engine, "connect", set_up)
        return engine

    def __str__(self) -> str:
        return self._url.render_as_string()

    def check_place(self) -> None:
        if self._file is None:
            return
        found = _identity(self._path)
        if found is None:
            raise ConfigError(
                f"The database {self._path} was removed while the server runs. Put it back, or "
                "restart the server, which makes an empty one."
            )
        if found != self._file:
            raise FileReplaced

    def begin(self, connection: sa.Connection, read_only: bool) -> None:
        # A transaction that reads and then writes fails at once when another one wrote in between.
        driver: Any = connection.connection.driver_connection
        driver.execute("BEGIN" if read_only else "BEGIN IMMEDIATE")

    def alive(self, _connection: sa.Connection) -> bool:
        return True

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """A lock beside the file: the change to WAL and the first schema don't wait for others.

        :raises ConfigError: the file can't be made.
        """
        if self.single:
            yield
            return
        with self._lock_file() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._check_log()
            yield
            self._file, self._log = _identity(self._path), _identity(self._log_path)

    def everywhere(self, _error: Exception) -> bool:
        return True

    def set_up_wrong(self, error: Exception) -> bool:
        driver = getattr(error, "orig", error)
        name = getattr(driver, "sqlite_errorname", "")
        return name.startswith(_SET_UP_WRONG) or str(driver).startswith(_NO_TABLE)

    def scrubbed(self, text: str) -> str:
        return text

    @property
    def _log_path(self) -> Path:
        return self._path.with_name(f"{self._path.name}-wal")

    def _check_log(self) -> None:
        """Don't open a file with the log of the one that it has taken the place of.

        SQLite would write into it what was meant for the other.
        """
        if self._file in (None, _identity(self._path)) or self._log is None:
            return
        if _identity(self._log_path) == self._log:
            raise ConfigError(
                f"The database {self._path} was replaced while the server runs, and beside it is "
                f"the log of the former one. Remove {self._log_path} and the file that ends in "
                "-shm, or put the former one back."
            )

    def _lock_file(self) -> IO[str]:
        """Makes the database's file, too, where this is the first use.

        With our user's rights only; SQLite gives its other files the same.
        """
        try:
            if self._file is None:  # Else it is gone, and whoever had it open makes no empty one.
                make_folder(self._path.parent)
                os.close(open_own(self._path, os.O_RDWR | os.O_CREAT))
                for beside in (self._log_path, self._path.with_name(f"{self._path.name}-shm")):
                    keep_private(beside)
            lock = Path(f"{self._path}.lock")
            return open(open_own(lock, os.O_WRONLY | os.O_CREAT), "w")
        except OSError as error:
            raise ConfigError(
                f"The database can't be kept in {self._path} ({error.strerror}). "
                "Set CHATAPP_DATABASE_URL, or make the folder writable."
            ) from None


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another of the same name; None: there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()
