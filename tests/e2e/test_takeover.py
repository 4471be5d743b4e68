"""A worker that dies or sleeps in the middle of answers: they end, or go on elsewhere, once."""

import contextlib
import os
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chatapp.upstream import local_model
from tests.support.client import Client, joined
from tests.support.cluster import Cluster
from tests.support.gunicorn import Gunicorn
from tests.support.resuming_reader import Resumer
from tests.support.upstream import Call, poll

Start = Callable[..., Cluster]
Property = Callable[[str, object], None]


class Halves:
    """A script that says half of an answer, and the rest once it may."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __call__(self, call: Call) -> None:
        call.head()
        if call.json["messages"][-1]["role"] == "assistant":
            call.text("continued")
        else:
            call.text("Half of it was said, ")
            waiter = threading.Thread(target=call.wait_closed, args=(60,), daemon=True)
            waiter.start()
            while not self.go_on.wait(0.05):
                if call.closed.is_set():
                    return
            call.text("and then the rest")
        call.text(".")
        call.finish()


def machine_of(cluster: Cluster, prompt: str) -> int:
    """The process that has the upstream connection of a question."""
    call = cluster.upstream.call(prompt)
    peer = call.sock.getpeername()[1]
    workers = [pid for server in cluster.servers for pid in server.workers]
    return next(pid for pid in workers if peer in local_ports(pid))


def put_to_sleep(pid: int, database: Path, answer_id: str) -> None:
    """Stop a process that has written half of an answer down, and holds no lock of SQLite's."""
    with contextlib.closing(sqlite3.connect(database, timeout=10.0)) as connection:
        known = "SELECT 1 FROM chatapp_segments WHERE answer_id = ? AND instr(wire, 'Half')"
        poll(lambda: connection.execute(known, (answer_id,)).fetchone())

    def stopped() -> bool:
        os.kill(pid, signal.SIGSTOP)
        with contextlib.closing(sqlite3.connect(database, timeout=1.0)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.rollback()
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)
                return False
        return True

    poll(stopped)


def local_ports(pid: int) -> set[int]:
    """Of a process's own TCP connections."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return {int(each[1].split(":")[1], 16) for each in fields if each[9] in inodes}


@pytest.fixture(scope="module")
def failing(start_cluster: Start) -> Cluster:
    return start_cluster([{}], "-w", "3")


@pytest.fixture(scope="module")
def continuing(start_cluster: Start) -> Cluster:
    return start_cluster([{"CHATAPP_TAKEOVER": "continue"}], "-w", "3")


def spread(cluster: Cluster, script: Halves, name: str) -> dict[str, Resumer]:
    """Readers of running answers of at least two workers, by their question."""
    visitor = cluster.visitor()
    readers: dict[str, Resumer] = {}
    for number in range(40):
        prompt = f"{name} {number}"
        cluster.scripts[prompt] = script
        readers[prompt] = Resumer(visitor, visitor[0].ask(prompt))
        if number >= 7 and len({machine_of(cluster, each) for each in readers}) > 1:
            break
    poll(lambda: all("said" in reader.text for reader in readers.values()))
    return readers


def test_killed_worker_ends_its_answers_as_interrupted_and_no_others(
    failing: Cluster, record_property: Property
) -> None:
    script = Halves()
    readers = spread(failing, script, "killed")
    victim = machine_of(failing, "killed 0")
    lost = [each for each in readers if machine_of(failing, each) == victim]
    killed_at = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    for prompt in lost:
        end = readers[prompt].finish(30)
        assert (end.event, end.data["code"], end.data["retryable"]) == (
            "failed",
            "interrupted",
            True,
        )
        readers[prompt].assert_exact("Half of it was said, ")
    slowest = max(readers[each].ended_at for each in lost) - killed_at
    record_property("seconds to the end of a killed worker's answers", round(slowest, 2))
    script.go_on.set()
    for prompt in set(readers) - set(lost):
        assert readers[prompt].finish().event == "done"
        readers[prompt].assert_exact("Half of it was said, and then the rest.")
    assert all(len(failing.upstream.calls_for(prompt)) == 1 for prompt in readers)


def test_what_a_killed_worker_had_written_stays_in_the_conversation(failing: Cluster) -> None:
    failing.scripts["kept"] = Halves()
    visitor = failing.visitor()
    answer = visitor[0].ask("kept")
    reader = Resumer(visitor, answer)
    poll(lambda: "said" in reader.text)
    # What the readers elsewhere see is what will be kept.
    elsewhere = [Resumer(visitor, answer) for _ in range(8)]
    poll(lambda: all("said" in each.text for each in elsewhere))
    os.kill(machine_of(failing, "kept"), signal.SIGKILL)
    reader.finish(30)
    path = f"/api/conversations/{answer['answer']['conversation_id']}"
    message = visitor[0].get(path).json["messages"][-1]
    assert message["content"] == "Half of it was said, "
    assert (message["status"], message["error"]["code"]) == ("failed", "interrupted")
    again = visitor[0].call("POST", "/api/chat", {"regenerate": message["id"]})
    assert again.status == 202


def test_sleeping_worker_loses_its_answers_and_doubles_nothing(failing: Cluster) -> None:
    """It wakes up in the middle of an answer that was ended elsewhere, and changes nothing."""
    script = Halves()
    failing.scripts["asleep"] = script
    visitor = failing.visitor()
    answer = visitor[0].ask("asleep")
    reader = Resumer(visitor, answer)
    poll(lambda: "said" in reader.text)
    reader.close()
    sleeper = machine_of(failing, "asleep")
    put_to_sleep(sleeper, failing.servers[0].instance / "chat.db", reader.id)
    try:
        poll(lambda: interrupted(failing, reader), 30)
    finally:
        script.go_on.set()
        os.kill(sleeper, signal.SIGCONT)
    poll(lambda: failing.upstream.call("asleep").over.is_set())
    for client in visitor * 8:
        events = client.stream(answer["events"]).all()
        assert joined(events) == "Half of it was said, "
        assert events[-1].data["code"] == "interrupted"
    path = f"/api/conversations/{answer['answer']['conversation_id']}"
    message = visitor[0].get(path).json["messages"][-1]
    assert (message["content"], message["status"]) == ("Half of it was said, ", "failed")
    assert len(failing.upstream.calls_for("asleep")) == 1


def interrupted(cluster: Cluster, reader: Resumer) -> bool:
    """Whether some worker that is awake has the end."""
    client = Client(cluster.servers[0].url, 1)
    client.cookie = reader.clients[0].cookie
    try:
        events = client.stream(f"/api/answers/{reader.id}/events").all()
    except OSError:
        return False
    return bool(events) and events[-1].data.get("code") == "interrupted"


def test_continued_answer_is_one_message_with_one_pause(continuing: Cluster) -> None:
    script = Halves()
    continuing.scripts |= {"go on": script, "Half of it was said, ": script}
    visitor = continuing.visitor()
    answer = visitor[0].ask("go on")
    reader = Resumer(visitor, answer)
    poll(lambda: "said" in reader.text)
    watched = [Resumer(visitor, answer) for _ in range(8)]
    poll(lambda: all("said" in each.text for each in watched))
    os.kill(machine_of(continuing, "go on"), signal.SIGKILL)
    for each in (reader, *watched):
        assert each.finish(30).event == "done"
        each.assert_exact("Half of it was said, continued.")
    snapshot = visitor[0].get(f"/api/answers/{reader.id}").json
    assert snapshot["text"] == "Half of it was said, continued."
    calls = continuing.upstream.calls_for("Half of it was said, ")
    assert [call.json["messages"][-1]["role"] for call in calls] == ["assistant"]
    assert len(continuing.upstream.calls_for("go on")) == 1


def test_stopping_what_nobody_writes_ends_it(continuing: Cluster) -> None:
    continuing.scripts |= {"orphan": endless, "begun ": endless}
    visitor = continuing.visitor()
    answer = visitor[0].ask("orphan")
    reader = Resumer(visitor, answer)
    poll(lambda: "begun" in reader.text)
    os.kill(machine_of(continuing, "orphan"), signal.SIGKILL)
    poll(lambda: visitor[0].call("POST", answer["stop"]).status == 202)
    assert reader.finish(30).data["finish_reason"] == "stopped"


def endless(call: Call) -> None:
    call.head()
    call.text("begun ")
    call.wait_closed(60)


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Gunicorn]:
    """Two workers that answer by the embedded model, and continue each other's answers."""
    if not local_model.available():
        pytest.fail("the embedded model is not installed")
    server = Gunicorn(None, tmp_path / "instance", "-w", "2", CHATAPP_TAKEOVER="continue")
    yield server
    server.stop()


def writer_of(server: Gunicorn) -> int:
    """The worker that writes the only answer, by its own counter."""

    def writer() -> int | None:
        page = Client(server.url).get("/metrics").body.decode()
        runs = re.search(r"^chatapp_answers_running 1$", page, re.MULTILINE)
        pid = re.search(r'^chatapp_worker\{.*pid="(\d+)"\} 1$', page, re.MULTILINE)
        return int(pid[1]) if runs and pid else None

    pid: int = poll(writer)
    return pid


@pytest.mark.timeout(300)
def test_embedded_model_goes_on_with_a_killed_workers_answer(embedded: Gunicorn) -> None:
    client = Client(embedded.url, 120)
    client.get("/")
    answer = client.ask("Write a long story about a river and its people.", max_tokens=300)
    reader = Resumer([client], answer)
    poll(lambda: reader.end or len(reader.text) > 60, 60)
    assert not reader.end, reader.text
    os.kill(writer_of(embedded), signal.SIGKILL)
    end = reader.finish(200)
    assert end.event == "done"
    assert client.get(f"/api/answers/{reader.id}").json["text"] == reader.text
