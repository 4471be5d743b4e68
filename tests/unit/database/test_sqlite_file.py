"""SQLite's file: gone or replaced while it is open, and how surely it keeps what is written."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from chatapp.database.database import Database
from chatapp.errors import ConfigError, Misconfigured
from tests.unit.database.test_database import insert, names


@pytest.fixture
def path(migrated_sqlite: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "chat.db"
    shutil.copy(migrated_sqlite, copy)
    return copy


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    """One that has been used."""
    opened = Database(f"sqlite:///{path}", 2, migrates=True)
    opened.run(insert("before"))
    yield opened
    opened.close()


def move(path: Path, to: Path) -> None:
    """With what belongs to it."""
    for end in ("", "-wal", "-shm"):
        source = path.with_name(path.name + end)
        if source.exists():
            source.rename(to.with_name(to.name + end))


def test_a_file_that_is_gone_is_not_written_and_goes_on_when_it_is_back(
    database: Database, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = path.with_name("away.db")
    move(path, away)
    for _ in range(3):
        with pytest.raises(Misconfigured, match="removed"):
            database.run(insert("lost"))
    assert not path.exists()
    assert database.fault.error is not None
    assert caplog.text.count("was removed") == 1
    move(away, path)
    database.run(insert("after"))
    assert names(database) == ["after", "before"]
    assert database.fault.error is None


def test_a_file_that_takes_its_place_is_opened(
    database: Database, path: Path, migrated_sqlite: Path
) -> None:
    move(path, path.with_name("former.db"))
    shutil.copy(migrated_sqlite, path)
    assert names(database) == []
    database.run(insert("new"))
    assert names(database) == ["new"]


def test_one_without_the_schema_is_not_made_ours(database: Database, path: Path) -> None:
    move(path, path.with_name("former.db"))
    path.write_bytes(b"")
    with pytest.raises(Misconfigured, match="no schema"):
        database.run(insert("lost"))


def test_one_beside_the_log_of_the_former_is_not_opened(
    database: Database, path: Path, migrated_sqlite: Path
) -> None:
    path.rename(path.with_name("former.db"))
    shutil.copy(migrated_sqlite, path.with_name("new.db"))
    path.with_name("new.db").rename(path)
    with pytest.raises(Misconfigured, match="-wal"):
        database.run(insert("lost"))
    path.with_name("chat.db-wal").unlink()
    path.with_name("chat.db-shm").unlink()
    assert names(database) == []


def test_a_commit_is_as_sure_as_the_url_says(path: Path) -> None:
    def level(connection: sa.Connection) -> int:
        return int(connection.exec_driver_sql("PRAGMA synchronous").scalar_one())

    for query, expected in (("", 1), ("?synchronous=full", 2)):
        database = Database(f"sqlite:///{path}{query}")
        assert database.run(level) == expected
        database.close()
    with pytest.raises(ConfigError, match="synchronous"):
        Database(f"sqlite:///{path}?synchronous=off")
