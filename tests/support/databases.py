"""Databases for tests: SQLite files, and a real PostgreSQL that ends with the tests."""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from chatapp.database.database import Database
from tests.support.upstream import poll

USER = "chatapp"
FAST = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=200")


class Postgres:
    """A server on a free port of this machine, without passwords, its files in memory or /tmp."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="chatapp-pg-"))
        self._user = None
        if os.getuid() == 0:  # PostgreSQL refuses to run as root.
            self._user = "postgres" if _exists("postgres") else "nobody"
            shutil.chown(self.folder, self._user)
        self._numbers = itertools.count()
        with contextlib.closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        data = str(self.folder / "data")
        initdb = [_program("initdb"), "-D", data, "-U", USER, "-A", "trust", "--no-sync"]
        self._run([*initdb, "-E", "UTF8", "--locale=C.UTF-8"]).wait(60)
        self.process = self._start()

    def url(self, name: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    def database(self, template: str = "template1") -> str:
        """The URL of a database that nobody has used, a copy of `template`."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def execute(self, statement: str) -> None:
        """Outside of any transaction."""
        engine = sa.create_engine(
            self.url("postgres").replace("postgresql:", "postgresql+psycopg:"),
            isolation_level="AUTOCOMMIT",
            poolclass=sa.NullPool,
        )
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)

    def freeze(self) -> None:
        """It stands still: the kernel takes what it is sent, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Every connection is cut; new ones are refused."""
        self.thaw()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)

    def start(self) -> None:
        """Again, on the same port, with the same data."""
        self.process = self._start()

    def close(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [_program("postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        options = (*FAST, "listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}")
        process = self._run([*command, *(part for each in options for part in ("-c", each))])

        def answers() -> bool:
            log = (self.folder / "log").read_text(errors="replace")
            assert process.poll() is None, log
            try:
                self.execute("SELECT 1")
            except sa.exc.OperationalError:
                return False
            return True

        poll(answers, 30)
        return process

    def _run(self, command: list[str]) -> "subprocess.Popen[bytes]":
        with open(self.folder / "log", "ab") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                user=self._user,
                group=pwd.getpwnam(self._user).pw_gid if self._user else None,
                cwd=self.folder,
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            )

    def _signal(self, number: int) -> None:
        """To the server and to each connection's process."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        pids = [self.process.pid, *map(int, children.read_text().split())]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _program(name: str) -> str:
    """Of PostgreSQL, wherever it is installed."""
    found = shutil.which(name)
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if not found and not versions:
        if os.environ.get("CI"):
            pytest.fail(f"PostgreSQL's {name} is missing")
        pytest.skip("PostgreSQL is not installed")
    return found or str(versions[-1])


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for all tests; who stops it uses `own_postgres`."""
    _program("postgres")
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server that a test may stop and freeze."""
    _program("postgres")
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the current schema, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "chat.db"
    Database(f"sqlite:///{path}").migrate()
    with contextlib.closing(sa.create_engine(f"sqlite:///{path}").raw_connection()) as connection:
        connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Postgres) -> str:
    """The name of a database with the current schema, to be a template."""
    url = postgres.database()
    Database(url).migrate()
    return url.rpartition("/")[2]


BOTH_DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.processes)]


@pytest.fixture(params=BOTH_DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of the test's own, with the current schema; each test runs on each kind."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "chat.db")
        return f"sqlite:///{tmp_path / 'chat.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database(request.getfixturevalue("migrated_postgres"))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An open one."""
    opened = Database(database_url, 2)
    yield opened
    opened.close()
