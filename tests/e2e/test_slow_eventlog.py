"""An event log that answers late delays readers elsewhere by its round trips, not by the answer."""

import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support.client import joined
from tests.support.cluster import Cluster
from tests.support.redis_server import RedisServer
from tests.support.slow_proxy import SlowProxy
from tests.support.upstream import Call, poll

DELAY = 0.25
"""Seconds: longer than the writer's pause between two flushes."""


@pytest.fixture
def cluster(own_redis: RedisServer, start_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    """Two machines of one worker; Redis is far away from the second."""
    proxy = SlowProxy(own_redis.port, DELAY)
    urls = (own_redis.url, f"redis://127.0.0.1:{proxy.port}/0")
    yield start_cluster([{"CHATAPP_EVENTLOG_URL": url} for url in urls], "-w", "1")
    proxy.close()


class UntilRead:
    """A script that goes on saying words until it may end, or is stopped."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def __call__(self, call: Call) -> None:
        call.head()
        threading.Thread(target=call.wait_closed, args=(60,), daemon=True).start()
        while not (self.over.wait(0.02) or call.closed.is_set()):
            call.text("word ")
        if self.over.is_set():
            call.finish()


def test_the_reader_elsewhere_reads_while_the_answer_grows(cluster: Cluster) -> None:
    script = cluster.scripts["grows"] = UntilRead()
    here, there = cluster.visitor()
    answer = here.ask("grows")
    stream = there.stream(answer["events"])
    try:
        # The answer does not end before something of it is read elsewhere.
        assert any("word" in joined([event]) for event in stream)
    finally:
        script.over.set()
        stream.close()


def test_a_stop_elsewhere_does_not_wait_for_the_answers_end(cluster: Cluster) -> None:
    cluster.scripts["is stopped"] = UntilRead()
    here, there = cluster.visitor()
    answer = here.ask("is stopped")
    poll(lambda: here.get(f"/api/answers/{answer['answer']['id']}").json["text"])
    assert there.call("POST", answer["stop"]).status == 202
    poll(lambda: cluster.upstream.call("is stopped").closed.is_set(), 30)
    path = f"/api/answers/{answer['answer']['id']}"
    poll(lambda: there.get(path).json["status"] == "stopped", 30)
