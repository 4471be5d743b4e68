"""A worker that computes is busy, not dead; one that does nothing else for long is stuck."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.client import Client, joined
from tests.support.databases import Postgres
from tests.support.embedded_app import Served
from tests.support.redis_server import RedisServer
from tests.support.upstream import Call, poll

HOST = """
import os
import time

from flask import Flask

from chatapp import AnswerInfo, ChatApp

app = Flask(__name__)
app.secret_key = "the same everywhere"
chat = ChatApp(app)


@chat.on_piece
def compute(info: AnswerInfo, piece: str) -> None:
    until = time.perf_counter() + (float(os.environ["COMPUTES"]) if "compute" in piece else 0.0)
    while time.perf_counter() < until:
        pass
"""
LEASE = "1"
"""Seconds; a fraction of what the hook takes."""


def half_then_compute(call: Call) -> None:
    call.head()
    call.text("Half, ")
    call.text("compute, ")
    call.text("and all.")
    call.finish()


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def event_log(request: pytest.FixtureRequest) -> dict[str, str]:
    """What tells a server its event log."""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.database(request.getfixturevalue("migrated_postgres"))
        return {"CHATAPP_DATABASE_URL": url}
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis_server")
        return {"CHATAPP_EVENTLOG_URL": redis.url}
    return {}


@pytest.fixture
def serve_host(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    served: list[Served] = []

    def serve(**env: str) -> Served:
        env |= {"CHATAPP_LEASE": LEASE, "CHATAPP_HOOK_STALL": "60"}
        served.append(Served(tmp_path, HOST, "-w", "2", **env))
        return served[-1]

    yield serve
    for each in served:
        each.close()


def end_of(client: Client, answer_id: str) -> str:
    """`done`, or why it failed; empty: it runs."""
    snapshot = client.get(f"/api/answers/{answer_id}").json
    if snapshot["error"]:
        return str(snapshot["error"]["code"])
    return str(snapshot["finish_reason"] or "")


def test_a_hook_that_computes_for_longer_than_the_lease_costs_no_answer(
    serve_host: Callable[..., Served], event_log: dict[str, str]
) -> None:
    served = serve_host(COMPUTES="4", **event_log)
    served.scripts["long"] = half_then_compute
    client = served.visitor()
    answer = client.ask("long")
    assert joined(client.stream(answer["events"]).all()) == "Half, compute, and all."
    assert end_of(client, answer["answer"]["id"]) == "stop"
    assert "taken over" not in served.server.log


def test_a_worker_that_is_stuck_for_longer_than_it_may_be_loses_its_answers(
    serve_host: Callable[..., Served],
) -> None:
    served = serve_host(COMPUTES="8", CHATAPP_BUSY_LEASE="1")
    served.scripts["stuck"] = half_then_compute
    client = served.visitor()
    answer = client.ask("stuck")
    poll(lambda: "taken over" in served.server.log, 30)
    assert poll(lambda: end_of(client, answer["answer"]["id"]), 30) == "interrupted"
