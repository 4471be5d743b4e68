"""The database or Redis stands still, or is gone, while answers run: what is live goes on."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from chatapp.database.database import Database
from tests.support.cluster import Cluster
from tests.support.databases import Postgres
from tests.support.redis_server import RedisServer
from tests.support.resuming_reader import Resumer
from tests.support.upstream import Call, poll, speak

ANSWERS = 20
OUTAGE = 10.0
"""Seconds."""
Property = Callable[[str, object], None]


class Storage(Protocol):
    """A server that a test takes away and brings back."""

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...

    def stop(self) -> None: ...

    def start(self) -> None: ...


class Ticking:
    """A script that says a numbered word every 50 ms, until it may end."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.said: dict[str, str] = {}

    def __call__(self, call: Call) -> None:
        call.head()
        said = ""
        number = 0
        while not self.over.wait(0.05):
            call.text(f"{number} ")
            said += f"{number} "
            number += 1
        self.said[call.prompt] = said
        call.finish()


@pytest.fixture(params=["postgresql", "redis"])
def storage_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def stored(
    storage_kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Cluster, Storage]]:
    """Two workers in front of a storage of their own."""
    server: Storage
    if storage_kind == "postgresql":
        postgres: Postgres = request.getfixturevalue("own_postgres")
        url = postgres.database()
        Database(url).migrate()
        server, env = postgres, {"CHATAPP_DATABASE_URL": url}
    else:
        redis: RedisServer = request.getfixturevalue("own_redis")
        server, env = redis, {"CHATAPP_EVENTLOG_URL": redis.url}
    cluster = Cluster([env | {"CHATAPP_MAX_RUNNING_PER_OWNER": "100"}], tmp_path, "-w", "2")
    yield cluster, server
    cluster.close()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["freeze", "stop"])
def test_outage_stalls_nothing_live_and_loses_nothing(
    how: str, stored: tuple[Cluster, Storage], storage_kind: str, record_property: Property
) -> None:
    cluster, server = stored
    script = Ticking()
    cluster.upstream.script = script
    visitor = cluster.visitor()[0]
    answers = [visitor.ask(f"answer {number}") for number in range(ANSWERS)]
    followers = [visitor.ask_streaming("followed where it is written")]
    live = [threading.Thread(target=follower.all, daemon=True) for follower in followers]
    for thread in live:
        thread.start()
    poll(lambda: all(len(stream.raw) > 2000 for stream in followers))
    (server.freeze if how == "freeze" else server.stop)()
    size = len(followers[0].raw)
    began = time.monotonic()
    # What is live grows all the time: it is looked at again and again through the outage.
    while time.monotonic() - began < OUTAGE:
        poll(lambda size=size: len(followers[0].raw) > size, 3)
        size = len(followers[0].raw)
    (server.thaw if how == "freeze" else server.start)()
    readers = [Resumer([visitor], answer) for answer in answers]
    poll(lambda: all(reader.events for reader in readers), 30)
    script.over.set()
    for thread in live:
        thread.join(30)
    for answer, reader in zip(answers, readers, strict=True):
        assert reader.finish().event == "done"
        prompt = f"answer {answers.index(answer)}"
        reader.assert_exact(script.said[prompt])
    record_property(f"{storage_kind} {how}", "recovered")


def test_one_connection_serves_everybody_beside_200_open_streams(
    own_postgres: Postgres, tmp_path: Path
) -> None:
    url = own_postgres.database()
    Database(url).migrate()
    env = {"CHATAPP_DATABASE_URL": url, "CHATAPP_DATABASE_POOL": "1"}
    cluster = Cluster([env], tmp_path)
    try:
        script = Ticking()
        cluster.upstream.script = script
        visitors = [cluster.visitor()[0] for _ in range(20)]
        streams = [each.ask_streaming(f"q{n}") for each in visitors for n in range(10)]
        for stream in streams:
            assert next(iter(stream)).event == "start"
        for visitor in visitors:
            assert len(visitor.get("/api/conversations").json["conversations"]) == 10
        cluster.upstream.script = speak("At once.")
        begun = cluster.visitor()[0].ask_streaming("another")
        assert begun.all()[-1].event == "done"
        script.over.set()
        for stream in streams:
            stream.close()
    finally:
        script.over.set()
        cluster.close()


def test_new_questions_are_refused_clearly_while_the_database_is_away(
    own_postgres: Postgres, tmp_path: Path
) -> None:
    url = own_postgres.database()
    Database(url).migrate()
    cluster = Cluster([{"CHATAPP_DATABASE_URL": url}], tmp_path)
    try:
        cluster.upstream.script = speak("Fine.")
        visitor = cluster.visitor()[0]
        visitor.ask("before")
        own_postgres.stop()
        reply = visitor.call("POST", "/api/chat", {"message": "meanwhile"})
        assert (reply.status, reply.error["code"]) == (503, "storage_unavailable")
        assert not cluster.upstream.calls_for("meanwhile")
        own_postgres.start()
        poll(lambda: visitor.call("POST", "/api/chat", {"message": "after"}).status == 202)
    finally:
        cluster.close()
