"""Units of work: all or nothing, in any database, and never longer than a person would wait."""

import contextlib
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from flask import Flask

from chatapp import cli
from chatapp.conversations.tables import calls
from chatapp.database import dialects, migrations
from chatapp.database.database import Database
from chatapp.database.migrations.upgrade import scripts
from chatapp.database.schema import metadata
from chatapp.errors import ConfigError, NotFound, StorageUnavailable
from chatapp.eventlog.sql import tables as eventlog_tables
from tests.support.databases import BOTH_DATABASES, Postgres
from tests.support.gunicorn import ROOT

ROW = {"answer_id": "a", "owner": "o", "started_at": 0, "total_tokens": 0}
COMMAND = "flask --app wsgi chatapp migrate"


def insert(name: str) -> Callable[[sa.Connection], None]:
    def work(connection: sa.Connection) -> None:
        connection.execute(sa.insert(calls), ROW | {"id": name})

    return work


def names(database: Database) -> list[str]:
    """What is stored, seen by a reader."""
    statement = sa.select(calls.c.id).order_by(calls.c.id)
    return database.run(lambda c: list(c.scalars(statement)), read_only=True)


def one(connection: sa.Connection) -> object:
    return connection.scalar(sa.text("SELECT 1"))


class TestUnitsOfWork:
    def test_what_one_returns_comes_out_and_what_it_writes_stays(self, database: Database) -> None:
        assert database.run(one) == 1
        database.run(insert("a"))
        assert names(database) == ["a"]

    @pytest.mark.parametrize("error", [NotFound("x"), ValueError("x"), KeyboardInterrupt()])
    def test_what_one_raises_undoes_it(self, database: Database, error: BaseException) -> None:
        def fails(connection: sa.Connection) -> None:
            insert("a")(connection)
            raise error

        with pytest.raises(type(error)):
            database.run(fails)
        database.run(insert("b"))
        assert names(database) == ["b"]

    def test_a_refused_row_undoes_it_and_is_no_fault_of_the_database(
        self, database: Database
    ) -> None:
        database.run(insert("a"))
        with pytest.raises(sa.exc.IntegrityError):
            database.run(lambda c: (insert("b")(c), insert("a")(c)))
        assert names(database) == ["a"]

    def test_after_closing_the_next_one_connects_again(self, database: Database) -> None:
        database.run(insert("a"))
        database.close()
        assert names(database) == ["a"]

    def test_threads_share_a_pool_of_one(self, database_url: str) -> None:
        database = Database(database_url, 1)
        threads = [
            threading.Thread(target=lambda n=n: database.run(insert(f"{n:02}")))  # type: ignore[misc]
            for n in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert names(database) == [f"{n:02}" for n in range(20)]
        database.close()


class TestTheSchema:
    def test_migrations_make_what_the_tables_declare(self, database: Database) -> None:
        assert eventlog_tables.ANSWERS.name in metadata.tables

        def differences(connection: sa.Connection) -> list[object]:
            options = {"version_table": migrations.VERSION_TABLE, "compare_type": True}
            context = MigrationContext.configure(connection, opts=options)
            return list(compare_metadata(context, metadata))

        assert database.run(differences) == []

    def test_the_version_that_is_needed_is_the_last_one(self) -> None:
        assert scripts().get_heads() == [migrations.HEAD]

    @pytest.fixture(params=BOTH_DATABASES)
    def empty_url(self, request: pytest.FixtureRequest, tmp_path: Path) -> str:
        if request.param == "sqlite":
            return f"sqlite:///{tmp_path / 'folder' / 'chat.db'}"
        server: Postgres = request.getfixturevalue("postgres")
        return server.database()

    def test_without_it_the_operator_is_told_what_to_do_and_then_it_works(
        self, empty_url: str
    ) -> None:
        database = Database(empty_url, 2)
        for attempt in (database.check, lambda: database.run(one)):
            with pytest.raises(ConfigError, match=COMMAND):
                attempt()
        for _ in range(2):
            database.migrate()
        database.check()
        assert names(database) == []
        database.close()

    def test_a_later_one_is_left_alone(self, database_url: str) -> None:
        database = Database(database_url)
        statement = sa.text(f"UPDATE {migrations.VERSION_TABLE} SET version_num = '9999'")
        database.run(lambda c: c.execute(statement) and None)
        database.close()
        for attempt in (database.check, database.migrate, lambda: database.run(one)):
            with pytest.raises(ConfigError, match="9999"):
                attempt()

    @pytest.mark.processes
    def test_it_makes_itself_where_that_is_wanted_once_for_all_processes(
        self, empty_url: str
    ) -> None:
        """Also when several start at the same moment."""
        script = (
            "import sys; from chatapp.database.database import Database; input();"
            f"print(Database({empty_url!r}, migrates=True).run(lambda c: 'ready'))"
        )
        processes = [python(script) for _ in range(4)]
        for process in processes:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.communicate(timeout=60)[0] for process in processes] == ["ready\n"] * 4

    def test_the_commands_do_so_and_say_where(self, empty_url: str) -> None:
        app = Flask("host")
        url = empty_url.replace("chatapp@", "chatapp:secret@")
        cli.register(app, Database(url))
        runner = app.test_cli_runner()
        before = runner.invoke(args=["chatapp", "check"])
        assert before.exit_code == 1
        assert COMMAND in before.output
        for command in ("migrate", "check"):
            done = runner.invoke(args=["chatapp", command])
            assert done.exit_code == 0, done.output
            assert "current" in done.output
            assert "secret" not in done.output + before.output


class TestAddresses:
    @pytest.mark.parametrize("url", ["no url secret", "mysql://me:secret@host/x", "sqlite"])
    def test_what_is_none_is_told_without_its_password(self, url: str) -> None:
        with pytest.raises(ConfigError, match=r"PostgreSQL|postgresql") as refused:
            Database(url)
        assert "secret" not in refused.value.message

    def test_a_folder_that_can_not_be_written_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match="CHATAPP_DATABASE_URL"):
            Database(f"sqlite:///{tmp_path}/file/chat.db", migrates=True).run(one)

    def test_the_file_is_for_its_owner_only(self, tmp_path: Path) -> None:
        database = Database(f"sqlite:///{tmp_path}/chat.db", migrates=True)
        database.run(insert("a"))
        modes = {file.name: file.stat().st_mode & 0o077 for file in tmp_path.glob("chat.db*")}
        assert modes["chat.db"] == modes["chat.db-wal"] == 0
        database.close()

    def test_a_database_in_memory_keeps_its_rows(self) -> None:
        database = Database("sqlite://", 4, migrates=True)
        database.run(insert("a"))
        assert names(database) == ["a"]
        database.close()


class TestSQLite:
    @pytest.fixture
    def path(self, migrated_sqlite: Path, tmp_path: Path) -> Path:
        copy = tmp_path / "chat.db"
        copy.write_bytes(migrated_sqlite.read_bytes())
        return copy

    @pytest.fixture
    def writer(self, path: Path) -> Iterator[sqlite3.Connection]:
        """Another process that writes, and does not finish."""
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("BEGIN IMMEDIATE")
            yield connection

    def test_reading_waits_for_no_writer_and_writing_not_for_ever(
        self, path: Path, writer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dialects, "LOCKED_MS", 50)
        database = Database(f"sqlite:///{path}", 2)
        assert names(database) == []
        with pytest.raises(StorageUnavailable):
            database.run(insert("a"))
        writer.execute("ROLLBACK")
        database.run(insert("b"))
        assert names(database) == ["b"]
        database.close()

    def test_who_waits_behind_a_failure_shares_it(
        self,
        path: Path,
        writer: sqlite3.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Each would otherwise wait for a time-out of its own, one after the other."""
        monkeypatch.setattr(dialects, "LOCKED_MS", 500)
        database = Database(f"sqlite:///{path}", 1)
        assert names(database) == []
        failed: list[str] = []
        attempts: list[bool] = []
        begin = dialects.SQLite.begin

        def counted(dialect: dialects.SQLite, connection: sa.Connection, read_only: bool) -> None:
            if connection.engine.url.database == str(path):  # other tests' threads use others
                attempts.append(read_only)
            begin(dialect, connection, read_only)

        monkeypatch.setattr(dialects.SQLite, "begin", counted)
        start = threading.Barrier(6)

        def write(name: str) -> None:
            start.wait()
            try:
                database.run(insert(name))
            except StorageUnavailable:
                failed.append(name)

        threads = [threading.Thread(target=write, args=(f"{n}",)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(failed) == 6
        assert len(attempts) < 6
        writer.execute("ROLLBACK")
        database.run(insert("a"))
        database.close()


class TestPostgreSQL:
    def test_one_that_stands_still_is_not_waited_for_and_works_again_by_itself(
        self, own_postgres: Postgres
    ) -> None:
        database = Database(own_postgres.database(), 2)
        database.migrate()
        database.run(insert("a"))
        own_postgres.freeze()
        for _ in ("a statement", "a connection"):
            with pytest.raises(StorageUnavailable):
                database.run(insert("b"))
        own_postgres.thaw()
        database.run(insert("c"))
        assert {"a", "c"} <= set(names(database))
        database.close()

    def test_one_that_restarts_is_noticed_before_anything_is_asked_of_it(
        self, own_postgres: Postgres
    ) -> None:
        database = Database(own_postgres.database(), 1)
        database.migrate()
        database.run(insert("a"))
        own_postgres.stop()
        with pytest.raises(StorageUnavailable):
            database.run(insert("b"))
        own_postgres.start()
        database.run(insert("c"))
        own_postgres.stop()
        own_postgres.start()
        database.run(insert("d"))
        assert names(database) == ["a", "c", "d"]
        database.close()

    def test_a_statement_that_takes_too_long_ends_and_the_next_one_does_not_care(
        self, database_on_postgres: Database
    ) -> None:
        with pytest.raises(StorageUnavailable):
            database_on_postgres.run(lambda c: c.execute(sa.text("SELECT pg_sleep(60)")) and None)
        assert database_on_postgres.run(one) == 1

    def test_no_more_connections_than_the_pool_has_and_none_in_a_transaction(
        self, database_on_postgres: Database
    ) -> None:
        threads = [
            threading.Thread(target=lambda: [names(database_on_postgres) for _ in range(10)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        states = sa.text(
            "SELECT count(*), count(*) FILTER (WHERE state LIKE 'idle in transaction%') "
            "FROM pg_stat_activity WHERE datname = current_database()"
        )
        total, open_transactions = database_on_postgres.run(
            lambda c: tuple(c.execute(states).one())
        )
        assert total <= 2
        assert open_transactions == 0

    @pytest.fixture
    def database_on_postgres(
        self, postgres: Postgres, migrated_postgres: str
    ) -> Iterator[Database]:
        database = Database(postgres.database(migrated_postgres), 2)
        yield database
        database.close()


UNDER_GEVENT = """
from gevent import monkey; monkey.patch_all()
import gevent, sys
import sqlalchemy as sa
from chatapp.database.database import Database
from chatapp.errors import NotFound
database = Database(sys.argv[1], 2)
ticks = 0
def tick():
    global ticks
    while True:
        ticks += 1
        gevent.sleep(0.001)
gevent.spawn(tick)
def slow(connection):
    before = ticks
    wait = "SELECT pg_sleep(0.2)" if connection.dialect.name == "postgresql" else (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) "
        "SELECT max(i) FROM n")
    connection.execute(sa.text(wait)).all()
    return ticks - before
def fails(_):
    raise NotFound("x")
assert database.run(slow) > 5, "the others did not run"
try:
    database.run(fails)
except NotFound:
    pass
else:
    raise AssertionError("nothing was raised")
waiting = gevent.spawn(database.run, slow)
gevent.sleep(0.01)
waiting.kill()
assert all(each.get() > 0 for each in [gevent.spawn(database.run, slow) for _ in range(4)])
if not __import__("os").fork():
    assert database.run(lambda c: c.scalar(sa.text("SELECT 7"))) == 7
    __import__("os")._exit(3)
assert __import__("os").waitstatus_to_exitcode(__import__("os").wait()[1]) == 3
assert database.run(slow) > 5
print("ok")
"""


@pytest.mark.processes
def test_under_gevent_the_others_go_on_and_a_fork_begins_anew(database_url: str) -> None:
    """And nothing is printed that is not ours."""
    process = python(UNDER_GEVENT, database_url, stderr=subprocess.STDOUT)
    assert process.communicate(timeout=60)[0] == "ok\n"


def python(script: str, *args: str, stderr: int | None = None) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *args],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
