"""A database or a Redis that stands still, goes away, comes back, or comes back empty."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatapp.database.database import Database
from chatapp.errors import ConfigError, StorageUnavailable
from chatapp.eventlog import (
    EventLog,
    MemoryEventLog,
    PendingMessage,
    RedisEventLog,
    State,
    open_event_log,
)
from tests.support.databases import Postgres
from tests.support.event_logs import ME, OTHER, append, record, text
from tests.support.gunicorn import ROOT
from tests.support.redis_server import RedisServer
from tests.support.upstream import poll

LATE = 12.0
"""Seconds after which a call hangs, on a busy machine; about 5 are promised."""
Server = Postgres | RedisServer

CALLS: dict[str, Callable[[EventLog], Any]] = {
    "claim": lambda log: log.claim(record("new")),
    "find": lambda log: log.find("a"),
    "write": lambda log: append(log, "a", 4, 4),
    "empty write": lambda log: log.write(ME, (), (), ()),
    "read": lambda log: log.read({"a": 0}),
    "request_stop": lambda log: log.request_stop("a"),
    "release": lambda log: log.release("a", 1),
    "refuse": lambda log: log.refuse("a", 1, b"no"),
    "discard": lambda log: log.discard(["a"]),
    "beat": lambda log: log.beat(ME),
    "leave": lambda log: log.leave([ME]),
    "orphans": lambda log: log.orphans([ME]),
    "note_readers": lambda log: log.note_readers(["a"]),
    "take": lambda log: log.take("a", 1, OTHER),
    "published": lambda log: log.published(0),
    "last_published": lambda log: log.last_published(),
    "tidy": lambda log: log.tidy(1, 1, 1, 1),
}


@pytest.fixture(
    params=[pytest.param(each, marks=pytest.mark.processes) for each in ("postgresql", "redis")]
)
def server(request: pytest.FixtureRequest) -> Server:
    """A server of the test's own."""
    name = "own_postgres" if request.param == "postgresql" else "own_redis"
    found: Server = request.getfixturevalue(name)
    return found


@pytest.fixture
def stored(server: Server) -> Iterator[EventLog]:
    """An event log there, with an answer whose log has three events."""
    database = None
    if isinstance(server, Postgres):
        database = Database(server.database(), 2)
        database.migrate()
        log = open_event_log("postgresql://", database)
    else:
        log = open_event_log(server.url, None)
    log.claim(record("a", key="k"))
    append(log, "a", 1, 3)
    yield log
    log.close()
    if database:
        database.close()


def fails(call: Callable[[], Any]) -> None:
    """It says that the storage is away, and does not hang."""
    began = time.monotonic()
    with pytest.raises(StorageUnavailable) as raised:
        call()
    assert time.monotonic() - began < LATE
    assert raised.value.retryable


def recovers(log: EventLog, expected: list[str]) -> None:
    """It works again, by itself."""

    def works() -> bool:
        try:
            return log.beat(ME)[ME] > 0
        except StorageUnavailable:
            return False

    poll(works, 20)
    assert text(log, "a") == expected
    assert not append(log, "a", 4, 6).lost
    assert text(log, "a") == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.timeout(240)
def test_a_server_that_stands_still(server: Server, stored: EventLog) -> None:
    server.freeze()
    calls = [CALLS[name] for name in ("find", "empty write", "claim")]
    for call in calls:
        fails(lambda call=call: call(stored))
    server.thaw()
    recovers(stored, ["1", "2", "3"])
    # What was asked meanwhile is done once, at the most.
    assert stored.claim(record("new")) == record("new")


@pytest.mark.timeout(240)
def test_what_it_took_while_it_stood_still_is_written_once(
    server: Server, stored: EventLog
) -> None:
    """The flush whose outcome is unknown reaches the server before, or while, it comes again."""
    server.freeze()
    fails(lambda: append(stored, "a", 4, 5))
    server.thaw()
    poll(lambda: written(lambda: append(stored, "a", 4, 6).lost == set()), 20)
    assert text(stored, "a") == ["1", "2", "3", "4", "5", "6"]


def written(call: Callable[[], bool]) -> bool:
    try:
        return call()
    except StorageUnavailable:
        return False


@pytest.mark.timeout(240)
def test_a_server_that_is_gone(server: Server, stored: EventLog) -> None:
    server.stop()
    for call in CALLS.values():
        fails(lambda call=call: call(stored))
    server.start()
    if isinstance(server, RedisServer):
        stored.claim(record("a", key="k", last_event=3))
        assert text(stored, "a") == []
        assert not append(stored, "a", 4, 6).lost
        return
    recovers(stored, ["1", "2", "3"])


@pytest.mark.timeout(240)
def test_many_waiting_callers_fail_together(server: Server, stored: EventLog) -> None:
    server.freeze()
    outcomes: list[float] = []

    def one() -> None:
        began = time.monotonic()
        with pytest.raises(StorageUnavailable):
            stored.find("a")
        outcomes.append(time.monotonic() - began)

    threads = [threading.Thread(target=one) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    server.thaw()
    assert len(outcomes) == 30
    assert max(outcomes) < LATE * 1.5
    recovers(stored, ["1", "2", "3"])


def test_an_idle_connection_that_was_cut_is_nobodys_error(server: Server, stored: EventLog) -> None:
    if isinstance(server, Postgres):
        server.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            "WHERE application_name = 'chatapp'"
        )
    else:
        server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert not append(stored, "a", 4, 4).lost
    assert text(stored, "a") == ["1", "2", "3", "4"]


class TestARedisThatHasLostEverything:
    """The workers that write the answers have them in memory, and write them anew."""

    @pytest.fixture
    def log(self, own_redis: RedisServer) -> Iterator[EventLog]:
        opened = open_event_log(own_redis.url, None)
        opened.claim(record("a", key="k", epoch=2))
        append(opened, "a", 1, 3, epoch=2)
        yield opened
        opened.close()

    def test_the_writer_is_told_and_claims_again(
        self, log: EventLog, own_redis: RedisServer
    ) -> None:
        own_redis.stop()
        own_redis.start()
        assert append(log, "a", 4, 5, epoch=2).lost == {"a"}
        assert log.find("a") is None
        assert log.read({"a": 3}) == ({}, {"a"})
        again = record("a", key="k", epoch=2)
        assert log.claim(again) == again
        assert not append(log, "a", 1, 5, epoch=2).lost
        assert text(log, "a") == ["1", "2", "3", "4", "5"]
        assert log.claim(record("b", key="k")).id == "a"
        assert not log.write(ME, [], [State("a", 2, "done", 5)], []).lost

    def test_the_numbers_of_publications_go_up(self, log: EventLog, own_redis: RedisServer) -> None:
        (before,) = log.write(ME, [], [], [PendingMessage(None, "e", b"1")]).numbers
        own_redis.stop()
        own_redis.start()
        assert log.last_published() == 0
        (after,) = log.write(ME, [], [], [PendingMessage(None, "e", b"2")]).numbers
        assert after > before
        assert [each.data for each in log.published(before)] == [b"2"]

    def test_who_lost_the_newest_only_goes_on_there(
        self, log: EventLog, own_redis: RedisServer
    ) -> None:
        """A server that saves now and then comes back with an older log."""
        own_redis.command("SAVE")
        append(log, "a", 4, 6, epoch=2)
        own_redis.stop()
        own_redis.start()
        assert append(log, "a", 7, 8, epoch=2).lost == {"a"}
        known = log.find("a")
        assert known
        assert (known.epoch, known.writer, known.last_event) == (2, ME, 3)
        assert not append(log, "a", 4, 8, epoch=2).lost
        assert text(log, "a") == [str(number) for number in range(1, 9)]


def test_a_redis_key_expires_if_nobody_ever_tidies(redis_server: RedisServer) -> None:
    log = open_event_log(redis_server.url, None)
    log.claim(record("a", key="k"))
    append(log, "a", 1, 1)
    for key in ("answer:a", "log:a", "key:8:somebody:k"):
        seconds = int(redis_server.command("TTL", f"chatapp:{key}")[1:])
        assert 86400 < seconds <= 30 * 86400
    log.close()


def test_nothing_of_a_forgotten_answer_stays_in_redis(redis_server: RedisServer) -> None:
    log = open_event_log(redis_server.url, None)
    for answer_id in ("done", "refused", "runs"):
        log.claim(record(answer_id, key=answer_id, request=b"ask"))
        append(log, answer_id, 1, 2)
        append(log, answer_id, 1, 3)
        log.request_stop(answer_id)
    log.write(ME, [], [State("done", 1, "done", 3)], [])
    log.refuse("refused", 1, b"no")
    assert redis_server.command("GET", "chatapp:bytes") == b"$2\r\n12\r\n"
    assert redis_server.command("SMEMBERS", "chatapp:stops") == b"*1\r\n$4\r\nruns\r\n"
    log.tidy(-1, 0, 0, 0)
    log.discard(["runs"])
    assert redis_server.command("KEYS", "*") == b"*1\r\n$13\r\nchatapp:bytes\r\n"
    assert redis_server.command("GET", "chatapp:bytes") == b"$1\r\n0\r\n"
    log.close()


@pytest.mark.parametrize("url", ["redis://h:port/", "mysql://h/d", "nonsense", ""])
def test_a_url_that_means_no_event_log_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        open_event_log(url, None)


def test_the_url_chooses() -> None:
    assert isinstance(open_event_log("memory://", None), MemoryEventLog)
    for url in ("redis://h/1", "rediss://h:6380", "unix:///run/redis.sock"):
        assert isinstance(open_event_log(url, None), RedisEventLog)


UNDER_GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys, threading, time
from chatapp.database.database import Database
from chatapp.errors import StorageUnavailable
from chatapp.eventlog import open_event_log
from tests.support.event_logs import ME, append, record

url = sys.argv[1]
database = None if url.startswith("redis") else Database(url, 2)
log = open_event_log(url, database)
log.claim(record("a"))
append(log, "a", 1, 1)
print("ready", flush=True)
sys.stdin.readline()

ticks, over = [0], threading.Event()
def tick():
    while not over.is_set():
        ticks[0] += 1
        time.sleep(0.005)
threading.Thread(target=tick, daemon=True).start()

def waits():
    before = ticks[0]
    try:
        append(log, "a", 2, 2)
    except StorageUnavailable:
        return "unavailable", ticks[0] - before
    return "written", ticks[0] - before
print(*waits(), flush=True)
sys.stdin.readline()
deadline = time.monotonic() + 30
while waits()[0] != "written":
    assert time.monotonic() < deadline
    time.sleep(0.05)
workers = [threading.Thread(target=lambda n=n: log.claim(record(f"g{n}"))) for n in range(40)]
for each in workers: each.start()
for each in workers: each.join(30)
found = log.read({f"g{n}": 0 for n in range(40)} | {"a": 0})
print("missing", len(found[1]), "segments", len(found[0]["a"]), flush=True)
over.set()
"""


class _Patched:
    """A process that gevent has patched, at its prompt."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", UNDER_GEVENT, url],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> list[str]:
        assert self.process.stdout
        return self.process.stdout.readline().split()

    def go_on(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@pytest.fixture
def patched() -> Iterator[Callable[[str], _Patched]]:
    started: list[_Patched] = []

    def start(url: str) -> _Patched:
        started.append(_Patched(url))
        assert started[-1].line() == ["ready"]
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate(timeout=10)


@pytest.mark.timeout(180)
def test_other_greenlets_run_while_a_frozen_server_is_waited_for(
    server: Server, patched: Callable[[str], _Patched]
) -> None:
    url = server.url
    if isinstance(server, Postgres):
        url = server.database()
        Database(url).migrate()
    process = patched(str(url))
    server.freeze()
    process.go_on()
    outcome, ticks = process.line()
    server.thaw()
    assert outcome == "unavailable"
    assert int(ticks) > 50
    process.go_on()
    assert process.line() == ["missing", "0", "segments", "2"]


@pytest.mark.timeout(180)
def test_other_greenlets_run_while_another_process_has_locked_sqlite(
    migrated_sqlite: Path, tmp_path: Path, patched: Callable[[str], _Patched]
) -> None:
    path = tmp_path / "chat.db"
    path.write_bytes(migrated_sqlite.read_bytes())
    url = f"sqlite:///{path}"
    process = patched(url)
    locked, leave = threading.Event(), threading.Event()

    def hold(_connection: Any) -> None:
        locked.set()
        leave.wait(30)

    other = Database(url, 2)
    holder = threading.Thread(target=lambda: other.run(hold))
    holder.start()
    assert locked.wait(10)
    process.go_on()
    outcome, ticks = process.line()
    leave.set()
    holder.join(30)
    other.close()
    assert outcome == "unavailable"
    assert int(ticks) > 50
    process.go_on()
    assert process.line() == ["missing", "0", "segments", "2"]
