"""Reloads and stops, as those see them who connect meanwhile; stock gunicorn is the measure."""

import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.gunicorn import Gunicorn
from tests.support.proxies import proxy
from tests.support.resuming_reader import Resumer
from tests.support.upstream import Call, FakeUpstream, poll, speak
from tests.support.visitors import LOOK, Address, Visitors, connect, question, read_reply

Serve = Callable[..., Gunicorn]
RELOADS, READERS, VISITORS_A_SECOND = 20, 60, 50
WORDS = [f"Word {n}. " for n in range(20)]
TEXT = "".join(WORDS)


class Endless:
    """A script: answers that begin, and end when `go_on` is set."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __call__(self, call: Call) -> None:
        call.head()
        call.text("begun. ")
        self.go_on.wait(60)
        call.text("Ended.")
        call.finish()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_nobody_who_connects_at_a_reload_is_refused_or_left_without_a_reply(
    workers: str, serve: Serve, tmp_path: Path
) -> None:
    """As with stock gunicorn, which leaves nobody either."""
    stock_settings = tmp_path / "stock.py"
    stock_settings.touch()
    for settings in (("-c", str(stock_settings)), ()):
        path = str(tmp_path / "socket")
        server = serve("-w", workers, *settings, "-b", f"unix:{path}")
        visitors = come_at_reloads(server, ("127.0.0.1", server.port), path)
        assert visitors.left == [], settings
    assert visitors.refused == []


def test_nobody_is_left_where_each_worker_has_a_socket_of_its_own(serve: Serve) -> None:
    with socket.socket() as reserved:  # It does not listen, but nobody else gets its port.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        server = serve("-w", "1", "--reuse-port", port=port)
        poll(lambda: knock(port), 30)
        visitors = come_at_reloads(server, ("127.0.0.1", port))
    assert visitors.left == []
    assert visitors.refused == []


def come_at_reloads(server: Gunicorn, *addresses: Address) -> Visitors:
    """Visitors who come while a server is reloaded three times, idle but for them."""
    with Visitors(list(addresses)).coming(100) as visitors:
        for _ in range(3):
            before = visitors.count
            poll(lambda before=before: visitors.count > before + 50, 60)
            old = set(server.workers)
            server.signal(signal.SIGHUP)
            poll(lambda old=old: not old & set(server.workers), 90)
    server.stop()
    return visitors


def knock(port: int) -> bool:
    """Whether somebody listens."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_a_worker_that_recycles_itself_serves_until_its_replacement_does(serve: Serve) -> None:
    server = serve("-w", "1", "--max-requests", "50")
    seen = set(server.workers)
    with Visitors([("127.0.0.1", server.port)]).coming(100) as visitors:
        poll(lambda: seen.update(server.workers) or len(seen) > 3, 90)
    assert visitors.left == []
    assert visitors.refused == []
    assert server.stop() == 0
    assert "Traceback" not in server.log


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_connection_that_was_accepted_may_ask_after_the_signal(
    number: int, serve: Serve, upstream: FakeUpstream
) -> None:
    """The worker waits for its first request and answers it, also where it has nothing else."""
    server = serve("--graceful-timeout", "20", "--keep-alive", "15")
    worker = server.workers
    silent = [connect(("127.0.0.1", server.port)) for _ in range(5)]
    push = Client(server.url).stream("/api/events")  # accepted after them
    next(push.blocks())
    server.signal(number)
    push.all()  # The worker drains.
    for sock in silent:
        with sock:
            sock.sendall(question("late"))
            reply = read_reply(sock)
            assert (reply.status, reply.headers["Connection"]) == (202, "close")
    poll(lambda: not set(worker) & set(server.workers), 20)
    assert all(call.over.is_set() for call in upstream.calls)
    assert len(upstream.calls) == len(silent)
    assert "SIGKILL" not in server.log


def test_an_idle_connection_may_be_used_once_more_where_others_serve(serve: Serve) -> None:
    """As a proxy does that can't know of the reload; then it ends."""
    server = serve("--keep-alive", "60")
    with connect(("127.0.0.1", server.port)) as used, connect(used.getpeername()) as unused:
        for sock in (used, unused):
            sock.sendall(LOOK)
            assert read_reply(sock).headers["Connection"] == "keep-alive"
        push = Client(server.url).stream("/api/events")
        next(push.blocks())
        server.signal(signal.SIGHUP)
        push.all()
        used.sendall(question("once more"))
        assert read_reply(used).status == 202
        assert used.recv(1) == unused.recv(1) == b""


def test_who_waits_to_be_accepted_when_the_server_stops_is_answered(serve: Serve) -> None:
    server = serve("-w", "1")
    assert Client(server.url).get("/healthz").status == 200
    [worker] = server.workers
    os.kill(worker, signal.SIGSTOP)
    waiting = [connect(("127.0.0.1", server.port)) for _ in range(20)]
    for sock in waiting[::2]:
        sock.sendall(question("first"))
    server.signal(signal.SIGTERM)
    poll(lambda: "Handling signal: term" in server.log)
    os.kill(worker, signal.SIGCONT)
    for sock in waiting[::2]:
        assert read_reply(sock).status == 202
    for sock in waiting[1::2]:
        sock.sendall(question("second"))
        assert read_reply(sock).status == 202
    for sock in waiting:
        sock.close()
    assert server.wait() == 0


def test_the_master_hears_and_replaces_while_old_workers_drain(
    serve: Serve, upstream: FakeUpstream
) -> None:
    upstream.script = script = Endless()
    server = serve("-w", "2", "--graceful-timeout", "600", "--timeout", "700")
    client = Client(server.url)
    stream = client.ask_streaming("long")
    events = iter(stream)
    while b"begun" not in stream.raw:
        next(events)
    for _ in range(2):
        old = set(server.workers)
        server.signal(signal.SIGHUP)
        new = poll(lambda old=old: len(there := set(server.workers) - old) >= 2 and there, 60)
        poll(lambda: len(server.workers) == 3, 60)  # Who has nothing to end has gone.
    victim = max(new)
    os.kill(victim, signal.SIGKILL)
    poll(lambda: victim not in server.workers and len(server.workers) == 3)
    server.signal(signal.SIGTERM)
    poll(lambda: "Handling signal: term" in server.log)
    script.go_on.set()
    assert list(events)[-1].event == "done"
    assert server.wait() == 0
    assert "Traceback" not in server.log


def reload(server: Gunicorn) -> None:
    """HUP, until the new workers serve; the old ones have answers to end yet, or are gone."""
    old = server.workers
    server.signal(signal.SIGHUP)
    for pid in old:
        poll(lambda pid=pid: f"worker {pid} waits" in server.log or pid not in server.workers, 60)


@pytest.mark.timeout(400)
def test_twenty_reloads_leave_nobody_without_a_reply(
    start_cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    """Sixty readers and fifty new visitors a second, half of each through the documented nginx."""
    # All of them come from one address.
    options = {"CHATAPP_MAX_RUNNING_PER_OWNER": "10000"}
    cluster = start_cluster([options], "-w", "2", "--graceful-timeout", "15")
    [server] = cluster.servers
    cluster.scripts["a visitor asks"] = speak("Hello.")
    over = threading.Event()
    finished: list[Resumer] = []
    faults: list[BaseException] = []

    def read_on(number: int, url: str) -> None:
        client = Client(url)
        try:
            while not over.is_set():
                prompt = f"reader {number} turn {len(finished)}"
                cluster.scripts[prompt] = speak(*WORDS, pause=0.2)
                reader = Resumer([client], client.ask(prompt))
                reader.finish(90)
                reader.assert_exact(TEXT)
                assert reader.faults == []
                assert set(reader.statuses) == {200}
                finished.append(reader)
        except BaseException as fault:
            faults.append(fault)

    # And each asks on the way whether the server is ready.
    opened = {
        "rate=20r/s": "rate=10000r/s",
        "chat_connections 100": "chat_connections 10000",
        "^/(metrics|readyz)": "^/metrics",
    }
    with proxy("nginx", server, tmp_path, opened, is_tls=False) as url:
        threads = [
            threading.Thread(target=read_on, args=(n, (server.url, url)[n % 2]), daemon=True)
            for n in range(READERS)
        ]
        for thread in threads:
            thread.start()
        port = int(url.rpartition(":")[2])
        visitors = Visitors([("127.0.0.1", server.port), ("127.0.0.1", port)])
        with visitors.coming(VISITORS_A_SECOND):
            for _ in range(RELOADS):
                reload(server)
                assert not faults, faults[0]
        over.set()
        for thread in threads:
            thread.join(120)
    assert not faults, faults[0]
    assert visitors.left == []
    assert visitors.refused == []
    assert len(finished) >= READERS
    assert "SIGKILL" not in cluster.log
