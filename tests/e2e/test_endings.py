"""Two machines, and an answer whose end one of them has to learn from the other."""

import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from chatapp.database.database import Database
from tests.support.client import Client, Reply
from tests.support.cluster import Cluster
from tests.support.resuming_reader import Resumer
from tests.support.upstream import Call, poll

MOST = 5


class Pair:
    """Two gunicorns with one worker each, on one database."""

    def __init__(self, folder: Path, **options: str) -> None:
        self.file = folder / "shared.db"
        url = f"sqlite:///{self.file}"
        Database(url).migrate()
        env = {
            "CHATAPP_DATABASE_URL": url,
            "CHATAPP_START_WAIT": "0.3",
            "CHATAPP_MAX_RUNNING_PER_OWNER": str(MOST),
        } | options
        self.cluster = Cluster([env, env], folder)
        self.upstream = self.cluster.upstream

    def visitor(self) -> tuple[Client, Client]:
        """One visitor, at both machines."""
        here, there = self.cluster.visitor()
        return here, there

    def says(self, prompt: str, script: Callable[[Call], None]) -> None:
        self.cluster.scripts[prompt] = script

    def calls(self, answer_id: str) -> list[tuple[Any, ...]]:
        """The ledger's entries that have ended: outcome, who counted, tokens."""
        query = (
            "SELECT outcome, usage_source, total_tokens FROM chatapp_calls"
            " WHERE answer_id = ? AND ended_at IS NOT NULL"
        )
        with closing(sqlite3.connect(self.file, timeout=10)) as connection:
            return connection.execute(query, (answer_id,)).fetchall()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(tmp_path_factory.mktemp("pair"))
    yield made
    made.cluster.close()


def half(call: Call) -> None:
    """Says half of an answer, and waits."""
    call.head()
    call.text("Half of it was said, ")
    call.wait_closed(60)


def test_an_answer_that_is_read_at_another_machine_is_not_abandoned(tmp_path: Path) -> None:
    """For three times as long as one without any reader lives."""
    pair = Pair(tmp_path, CHATAPP_ABANDON_AFTER="2")

    def script(call: Call) -> None:
        call.head()
        for number in range(120):
            call.text(f"{number} ")
            if call.wait_closed(0.05):
                return
        call.finish()

    pair.says("read elsewhere", script)
    here, there = pair.visitor()
    events = there.stream(here.ask("read elsewhere")["events"]).all()
    pair.cluster.close()
    assert events[-1].data.get("finish_reason") == "stop"


def test_the_call_of_an_answer_that_is_deleted_at_another_machine_ends(pair: Pair) -> None:
    pair.says("delete", half)
    here, there = pair.visitor()
    begun = here.ask("delete")
    about = begun["answer"]
    reader = Resumer([here], begun)
    poll(lambda: "said" in reader.text)
    assert there.call("DELETE", f"/api/conversations/{about['conversation_id']}").status == 204
    (entry,) = poll(lambda: pair.calls(about["id"]))
    assert entry[1] == "estimated"
    assert entry[2] >= 5
    assert pair.upstream.call("delete").closed.wait(10)
    reader.close()


def test_the_call_of_an_answer_whose_machine_died_ends_with_an_estimate(pair: Pair) -> None:
    pair.says("crash", half)
    here, there = pair.visitor()
    begun = here.ask("crash")
    reader = Resumer([here], begun)
    elsewhere = Resumer([there], begun)
    poll(lambda: "said" in elsewhere.text)
    (worker,) = pair.cluster.servers[0].workers
    os.kill(worker, signal.SIGKILL)
    assert elsewhere.finish(30).data["code"] == "interrupted"
    (entry,) = poll(lambda: pair.calls(begun["answer"]["id"]))
    assert entry[:2] == ("failed", "estimated")
    assert entry[2] >= 5
    reader.close()


@pytest.mark.parametrize("kind", ["messages", "message"])
def test_of_many_questions_at_once_as_many_begin_as_may(pair: Pair, kind: str) -> None:
    """At both machines together; there is room again when one has ended."""
    pair.says("many", half)
    visitor = pair.visitor()
    body: dict[str, Any] = {"message": "many"}
    if kind == "messages":
        body = {"messages": [{"role": "user", "content": "many"}]}
    gate = threading.Barrier(24)

    def post(number: int) -> Reply:
        gate.wait(30)
        return visitor[number % 2].call("POST", "/api/chat", body)

    with ThreadPoolExecutor(24) as pool:
        replies = list(pool.map(post, range(24)))
    begun = [each.json for each in replies if each.status == 202]
    refused = [each.error["code"] for each in replies if each.status != 202]
    assert (len(begun), set(refused)) == (MOST, {"too_many_running"})
    visitor[0].call("POST", begun[0]["stop"])
    poll(lambda: visitor[1].call("POST", "/api/chat", body).status == 202)


class TestAKey:
    @staticmethod
    def post(client: Client, prompt: str) -> Reply:
        return client.call(
            "POST", "/api/chat", {"message": prompt}, Idempotency_Key=prompt.replace(" ", "-")
        )

    @pytest.mark.parametrize("asks_again", [0, 1], ids=["here", "elsewhere"])
    def test_is_free_when_the_upstream_refuses_after_the_reply(
        self, pair: Pair, asks_again: int
    ) -> None:
        prompt = f"late {asks_again}"
        refuses = threading.Event()

        def script(call: Call) -> None:
            assert refuses.wait(30)
            call.refuse(429)

        pair.says(prompt, script)
        visitor = pair.visitor()
        first = self.post(visitor[0], prompt)
        assert first.status == 202
        refuses.set()
        for client in visitor:
            events = client.stream(first.json["events"]).all()
            assert events[-1].data["code"] == "upstream_busy"
        pair.says(prompt, half)
        again = poll(lambda: (r := self.post(visitor[asks_again], prompt)).status == 202 and r)
        assert again.json["answer"]["id"] != first.json["answer"]["id"]
        for client in visitor:  # And that one is the key's from then on.
            assert self.post(client, prompt).json["answer"]["id"] == again.json["answer"]["id"]
        visitor[0].call("POST", again.json["stop"])

    def test_stays_with_an_answer_that_began_and_failed(self, pair: Pair) -> None:
        def script(call: Call) -> None:
            call.head()
            call.text("Some text.")
            call.cut()

        pair.says("began", script)
        visitor = pair.visitor()
        first = self.post(visitor[0], "began").json
        for client in visitor:
            assert client.stream(first["events"]).all()[-1].event == "failed"
        for client in visitor:
            again = self.post(client, "began")
            assert (again.status, again.json["answer"]["id"]) == (202, first["answer"]["id"])
        assert len(pair.upstream.calls_for("began")) == 1
