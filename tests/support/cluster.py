"""Several workers, and several machines, in front of one upstream."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.databases import Postgres
from tests.support.gunicorn import Gunicorn
from tests.support.redis_server import RedisServer
from tests.support.upstream import FakeUpstream, Script, by_hand

SECRET = "the same on every machine"


class Cluster:
    """One or more gunicorns that share what they need to share.

    Tests tell their questions apart by the text that they ask; `scripts` says who answers which.
    """

    def __init__(self, machines: list[dict[str, str]], folder: Path, *args: str) -> None:
        self.upstream = FakeUpstream()
        self.scripts: dict[str, Script] = {}
        self.upstream.script = lambda call: self.scripts.get(call.prompt, by_hand)(call)
        self.servers = [
            Gunicorn(
                self.upstream.url,
                folder / f"machine{number}",
                *args,
                **({"CHATAPP_SECRET": SECRET} | env),
            )
            for number, env in enumerate(machines)
        ]

    @property
    def log(self) -> str:
        return "".join(server.log for server in self.servers)

    def visitor(self) -> list[Client]:
        """One new visitor, at each of the machines."""
        first = Client(self.servers[0].url)
        first.get("/")
        clients = [first, *(Client(server.url) for server in self.servers[1:])]
        for client in clients:
            client.cookie = first.cookie
        return clients

    def close(self) -> None:
        self.upstream.close()
        for server in self.servers:
            server.stop()
        assert "Traceback" not in self.log, self.log


@pytest.fixture(scope="module")
def start_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Cluster]]:
    """Starts clusters that the tests of a module share."""
    with contextlib.ExitStack() as started:

        def start(machines: list[dict[str, str]], *args: str) -> Cluster:
            cluster = Cluster(machines, tmp_path_factory.mktemp("cluster"), *args)
            started.callback(cluster.close)
            return cluster

        yield start


@pytest.fixture(scope="module", params=["workers", "postgresql", "redis"])
def cluster(request: pytest.FixtureRequest, start_cluster: Callable[..., Cluster]) -> Cluster:
    """Four workers with nothing else installed; two machines that share PostgreSQL, or Redis."""
    if request.param == "workers":
        return start_cluster([{}], "-w", "4")
    shared: dict[str, Any]
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        shared = {"CHATAPP_DATABASE_URL": server.database(_template(request))}
    else:
        redis: RedisServer = request.getfixturevalue("shared_redis")
        shared = {"CHATAPP_EVENTLOG_URL": redis.url}
    return start_cluster([shared, shared], "-w", "2")


def _template(request: pytest.FixtureRequest) -> str:
    template: str = request.getfixturevalue("migrated_postgres")
    return template
