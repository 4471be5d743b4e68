"""Rolling restarts while answers run: nobody who reads notices more than a reconnect."""

import http.client
import signal
import threading
from collections.abc import Callable

import pytest

from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.resuming_reader import Resumer
from tests.support.upstream import Call, poll, speak

Start = Callable[..., Cluster]
WORDS = [f"Word {n}. " for n in range(30)]
TEXT = "".join(WORDS)
RESTARTS, READERS = 20, 100


def restart(cluster: Cluster) -> None:
    """HUP, until the old workers are gone and the new ones serve."""
    server = cluster.servers[0]
    old = set(server.workers)
    server.signal(signal.SIGHUP)
    poll(lambda: server.workers and not old & set(server.workers), 90)


@pytest.mark.timeout(400)
def test_twenty_restarts_lose_and_double_nothing(start_cluster: Start) -> None:
    """A hundred answers run at any time; each was asked for once, and is read to its end."""
    cluster = start_cluster([{}], "-w", "2", "--graceful-timeout", "10")
    over = threading.Event()
    finished: list[Resumer] = []
    faults: list[BaseException] = []
    asked: list[str] = []

    def keep_asking(number: int) -> None:
        visitor = cluster.visitor()
        turn = 0
        while not over.is_set():
            prompt = f"visitor {number} turn {turn}"
            turn += 1
            cluster.scripts[prompt] = speak(*WORDS, pause=0.05)
            asked.append(prompt)
            reader = Resumer(visitor, ask(visitor[0], prompt), cut_after=20)
            reader.finish(90)
            reader.assert_exact(TEXT)
            finished.append(reader)

    def guarded(number: int) -> None:
        try:
            keep_asking(number)
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=guarded, args=(n,), daemon=True) for n in range(READERS)]
    for thread in threads:
        thread.start()
    poll(lambda: len(asked) >= READERS, 60)
    for _ in range(RESTARTS):
        restart(cluster)
        assert not faults, faults[0]
    over.set()
    for thread in threads:
        thread.join(120)
    assert not faults, faults[0]
    assert len(finished) == len(asked) >= READERS
    for prompt in asked:
        assert len(cluster.upstream.calls_for(prompt)) == 1
    assert "SIGKILL" not in cluster.log


def ask(client: Client, prompt: str) -> dict[str, object]:
    """Until somebody takes the question; the key makes sure that only one does."""
    key = prompt.replace(" ", "-")

    def post() -> dict[str, object] | None:
        try:
            reply = client.call("POST", "/api/chat", {"message": prompt}, Idempotency_Key=key)
        except (OSError, http.client.HTTPException):
            return None
        assert reply.status in (202, 503), reply.body
        return reply.json if reply.status == 202 else None

    answer: dict[str, object] = poll(post, 90)
    return answer


class Halves:
    """A script whose second half comes when it may."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __call__(self, call: Call) -> None:
        call.head()
        call.text("First half, ")
        self.go_on.wait(60)
        call.text("second half.")
        call.finish()


def test_readers_of_a_new_worker_follow_an_answer_that_an_old_one_still_writes(
    start_cluster: Start,
) -> None:
    cluster = start_cluster([{}], "--graceful-timeout", "20")
    cluster.scripts["long"] = script = Halves()
    visitor = cluster.visitor()
    answer = visitor[0].ask("long")
    begun = Resumer(visitor, answer)
    poll(lambda: "First" in begun.text)
    server = cluster.servers[0]
    old = set(server.workers)
    server.signal(signal.SIGHUP)
    poll(lambda: set(server.workers) - old)
    poll(lambda: visitor[0].get("/healthz").status == 200)
    late = [Resumer(visitor, answer) for _ in range(4)]
    poll(lambda: all("First" in reader.text for reader in late))
    script.go_on.set()
    for reader in (begun, *late):
        assert reader.finish().event == "done"
        reader.assert_exact("First half, second half.")


def test_answer_that_is_longer_than_the_grace_time_goes_on_in_another_worker(
    start_cluster: Start,
) -> None:
    """Where the policy is to continue; the reader sees one message."""
    options = {"CHATAPP_TAKEOVER": "continue", "CHATAPP_DRAIN_MARGIN": "2"}
    cluster = start_cluster([options], "--graceful-timeout", "4")
    cluster.scripts |= {"longer": Halves(), "First half, ": speak("the end.")}
    visitor = cluster.visitor()
    reader = Resumer(visitor, visitor[0].ask("longer"))
    poll(lambda: "First" in reader.text)
    restart(cluster)
    assert reader.finish().event == "done"
    reader.assert_exact("First half, the end.")
    assert "SIGKILL" not in cluster.log
