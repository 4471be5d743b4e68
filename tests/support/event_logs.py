"""Event logs of every kind for tests, and short ways to fill them."""

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from chatapp.database.database import Database
from chatapp.eventlog import (
    EventLog,
    MemoryEventLog,
    Record,
    Segment,
    State,
    Written,
    open_event_log,
)
from tests.support.databases import Postgres
from tests.support.redis_server import RedisServer

ME, OTHER = "me", "other"
KINDS = (
    "memory",
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.processes),
    pytest.param("redis", marks=pytest.mark.processes),
)
OpenLog = Callable[[], EventLog]
THREADS = 8


@pytest.fixture(params=KINDS)
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty event log is; each test runs with each kind."""
    if request.param == "memory":
        return "memory://"
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return server.url
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "chat.db")
        return f"sqlite:///{tmp_path / 'chat.db'}"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.database(request.getfixturevalue("migrated_postgres"))


@pytest.fixture
def open_log(log_url: str) -> Iterator[OpenLog]:
    """Opens the event log as one more worker does; one in memory is the same for all."""
    memory = MemoryEventLog()
    opened: list[EventLog] = []
    databases: list[Database] = []

    def open_one() -> EventLog:
        if log_url == "memory://":
            return memory
        database = None if log_url.startswith("redis") else Database(log_url, 2)
        if database:
            databases.append(database)
        opened.append(open_event_log(log_url, database))
        return opened[-1]

    yield open_one
    for log in opened:
        log.close()
    for database in databases:
        database.close()


@pytest.fixture
def log(open_log: OpenLog) -> EventLog:
    return open_log()


def record(answer_id: str, **fields: Any) -> Record:
    """A new answer of `ME`, but for `fields`."""
    plain: dict[str, Any] = {
        "owner": "somebody",
        "key": None,
        "conversation_id": None,
        "model": None,
        "created_at": 1_763_838_787.123456,
        "writer": ME,
        "epoch": 1,
        "status": "pending",
        "stop": False,
        "last_event": 0,
        "request": None,
        "refusal": None,
    }
    return Record(id=answer_id, **plain | fields)


def seg(answer_id: str, first: int, last: int, epoch: int = 1) -> Segment:
    """Events whose wire bytes are their numbers."""
    wire = "".join(f"{number} " for number in range(first, last + 1)).encode()
    return Segment(answer_id, epoch, first, last, wire)


def append(
    log: EventLog, answer_id: str, first: int, last: int, epoch: int = 1, writer: str = ME
) -> Written:
    """Write one segment."""
    return log.write(writer, [seg(answer_id, first, last, epoch)], [], [])


def end(
    log: EventLog,
    answer_id: str,
    first: int,
    last: int,
    status: str = "done",
    epoch: int = 1,
    writer: str = ME,
) -> Written:
    """Write the last segment, and the end."""
    segments = [seg(answer_id, first, last, epoch)]
    return log.write(writer, segments, [State(answer_id, epoch, status, last)], [])


def text(log: EventLog, answer_id: str) -> list[str]:
    """The numbers that a log's bytes tell, from its start."""
    found, _ = log.read({answer_id: 0})
    return "".join(each.wire.decode() for each in found.get(answer_id, [])).split()


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Do `work` in many threads that begin at the same moment."""
    barrier = threading.Barrier(count)

    def one(number: int) -> Any:
        barrier.wait(30)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))
