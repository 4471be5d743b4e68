"""The same application where nothing is monkey-patched: one thread per request."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, joined, parse_all
from tests.support.gunicorn import ROOT
from tests.support.shared_server import ended
from tests.support.upstream import FakeUpstream, by_hand, poll

SERVER = """
from gevent import monkey
from werkzeug.serving import make_server

from chatapp import create_app

assert not monkey.is_module_patched("socket")
server = make_server("127.0.0.1", 0, create_app(), threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    fake = FakeUpstream()
    fake.script = by_hand
    yield fake
    fake.close()


@pytest.fixture(scope="module")
def url(upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("threads")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("CHATAPP_", "OPENAI_"))}
    env = clean | {
        "OPENAI_API_KEY": "sk-test",
        "OPENAI_BASE_URL": upstream.url,
        "CHATAPP_MODEL": "fake-model",
        "CHATAPP_INSTANCE": str(folder / "instance"),
        "CHATAPP_HEARTBEAT": "0.2",
        "CHATAPP_START_WAIT": "0.5",
    }
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-c", SERVER], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        assert process.stdout
        port = int(process.stdout.readline() or b"0")
        assert port, (folder / "log").read_text()
        yield f"http://127.0.0.1:{port}"
        process.terminate()
    assert "Traceback" not in (folder / "log").read_text()


def begin(upstream: FakeUpstream, url: str, question: str) -> tuple[Client, dict[str, Any], Any]:
    client = Client(url)
    client.get("/")
    answer = client.ask(question)
    return client, answer, upstream.call(question)


def test_pieces_arrive_as_they_are_said(upstream: FakeUpstream, url: str) -> None:
    client, answer, call = begin(upstream, url, "stream")
    stream = client.stream(answer["events"])
    events = iter(stream)
    assert next(events).event == "start"
    call.head()
    call.text("first")
    assert next(events).data == {"text": "first"}
    call.text(" second")
    call.finish()
    rest = list(events)
    stream.close()
    assert joined(rest) == " second"
    assert rest[-1].event == "done"


def test_a_cut_connection_is_resumed(upstream: FakeUpstream, url: str) -> None:
    client, answer, call = begin(upstream, url, "resume")
    call.head()
    call.text("One. Two. ")
    stream = client.stream(answer["events"])
    blocks = stream.blocks()
    while b"One" not in stream.raw:
        next(blocks)
    stream.reset()
    seen = parse_all(stream.raw)
    call.text("三。")
    call.finish()
    path = f"{answer['events']}?granularity=sentence"
    seen += client.stream(path, Last_Event_ID=seen[-1].id).all()
    assert joined(seen) == "One. Two. 三。"
    assert client.get(path, Last_Event_ID=seen[-1].id).status == 204
    assert len(upstream.calls_for("resume")) == 1


@pytest.mark.parametrize("phase", ["no headers", "no token", "mid-stream"])
def test_stop_closes_the_upstream(upstream: FakeUpstream, url: str, phase: str) -> None:
    client, answer, call = begin(upstream, url, f"stop {phase}")
    text = "Half" if phase == "mid-stream" else ""
    if phase != "no headers":
        call.head()
    if text:
        call.text(text)
    path = answer["events"][: -len("/events")]
    poll(lambda: client.get(path).json["text"] == text)
    assert client.call("POST", answer["stop"]).status == 202
    assert call.wait_closed(10)
    snapshot = poll(ended(client, answer))
    assert (snapshot["status"], snapshot["text"]) == ("stopped", text)
    assert client.call("POST", answer["stop"]).status == 202
    call.over.set()


def test_a_client_that_vanishes_is_noticed_by_the_next_comments(
    upstream: FakeUpstream, url: str
) -> None:
    client, answer, call = begin(upstream, url, "vanish")
    call.head()
    stream = client.stream(answer["events"])
    readers = b"chatapp_readers 1\n"
    poll(lambda: readers in client.get("/metrics").body)
    stream.reset()
    poll(lambda: readers not in client.get("/metrics").body)
    call.finish()
    poll(ended(client, answer))
