"""Deploys: what readers, visitors and the process itself see when the server goes down."""

import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.client import Client, Sent, Stream, joined, parse_all
from tests.support.gunicorn import Gunicorn
from tests.support.upstream import Call, FakeUpstream, poll

SHORT, LONG, IDLE = 25, 25, 20
GRACE = ("--graceful-timeout", "8", "--keep-alive", "60")
MARGIN = {"CHATAPP_DRAIN_MARGIN": "4", "CHATAPP_MAX_RUNNING_PER_OWNER": "100"}


class Answers:
    """A script: short answers end when `go_on` is set, long ones never do."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __call__(self, call: Call) -> None:
        call.head()
        call.text("begun. ")
        if call.prompt == "long":
            call.wait_closed(60)
            return
        self.go_on.wait(30)
        call.text("Ended.")
        call.finish()


class Reader:
    """Follows an answer in a thread, to the end of the response."""

    def __init__(self, client: Client, prompt: str) -> None:
        self.stream: Stream = client.ask_streaming(prompt)
        self.thread = threading.Thread(target=self.stream.all, daemon=True)
        self.thread.start()

    @property
    def begun(self) -> bool:
        return b"begun" in self.stream.raw

    @property
    def events(self) -> list[Sent]:
        return parse_all(self.stream.raw)

    def finish(self) -> None:
        self.thread.join(30)
        assert not self.thread.is_alive(), "the response did not end"
        assert self.stream.ended_cleanly, "the response was cut"


def begin(server: Gunicorn) -> tuple[list[Reader], list[Reader], list[socket.socket]]:
    """Running answers, short and long, and idle connections."""
    with ThreadPoolExecutor(10) as pool:
        prompts = ["short"] * SHORT + ["long"] * LONG
        readers = list(pool.map(lambda p: Reader(Client(server.url), p), prompts))
    idle = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(IDLE)]
    for sock in idle:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in sock.recv(4096)
    poll(lambda: all(reader.begun for reader in readers))
    return readers[:SHORT], readers[SHORT:], idle


def assert_idle_ended(idle: list[socket.socket]) -> None:
    """Each idle connection is closed; the short and long answers still run meanwhile."""
    for sock in idle:
        while sock.recv(4096):
            pass
        sock.close()


def assert_drained(short: list[Reader], long: list[Reader]) -> None:
    for reader in short:
        reader.finish()
        assert reader.events[-1].event == "done", reader.events[-1]
        assert joined(reader.events) == "begun. Ended."
    for reader in long:
        reader.finish()
        assert not reader.events[-1].is_end
        assert reader.stream.raw.endswith(b"retry: 200\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_answers_that_fit_into_the_grace_time_are_read_to_their_end(
    number: int, serve: Callable[..., Gunicorn], upstream: FakeUpstream
) -> None:
    """TERM, Ctrl-C and QUIT alike; readers of longer answers are told to come back."""
    upstream.script = script = Answers()
    server = serve(*GRACE, **MARGIN)
    short, long, idle = begin(server)
    os.killpg(server.pid, number) if number == signal.SIGINT else server.signal(number)
    assert_idle_ended(idle)
    script.go_on.set()
    assert_drained(short, long)
    assert server.wait() == 0
    assert "SIGKILL" not in server.log
    assert "Traceback" not in server.log
    assert all(call.closed.is_set() for call in upstream.calls if call.prompt == "long")


def test_a_reload_serves_new_visitors_while_old_answers_run_on(
    serve: Callable[..., Gunicorn], upstream: FakeUpstream
) -> None:
    upstream.script = script = Answers()
    server = serve(*GRACE, **MARGIN)
    short, long, idle = begin(server)
    old = server.workers
    server.signal(signal.SIGHUP)
    poll(lambda: set(server.workers) - set(old))
    assert Client(server.url).get("/healthz").status == 200
    newcomer = Reader(Client(server.url), "short")
    poll(lambda: newcomer.begun)
    script.go_on.set()
    assert_drained([*short, newcomer], long)
    assert_idle_ended(idle)
    poll(lambda: not set(server.workers) & set(old), 20)
    assert Client(server.url).get("/healthz").status == 200
    assert server.stop() == 0
    assert "SIGKILL" not in server.log
    assert "Traceback" not in server.log


def test_an_answer_that_nobody_reads_is_finished_before_the_worker_ends(
    serve: Callable[..., Gunicorn], upstream: FakeUpstream
) -> None:
    """No connection is open, so gunicorn alone would see nothing to wait for."""
    upstream.script = script = Answers()
    server = serve(*GRACE, **MARGIN)
    client = Client(server.url)
    client.ask("short")
    upstream.wait_for_calls(1)
    server.signal(signal.SIGTERM)
    poll(lambda: not _accepts(server.port))
    threading.Timer(1.0, script.go_on.set).start()
    assert server.wait() == 0
    assert not upstream.calls[0].closed.is_set()
    assert "end early" not in server.log


def test_a_second_ctrl_c_does_not_wait_for_answers(
    serve: Callable[..., Gunicorn], upstream: FakeUpstream
) -> None:
    upstream.script = Answers()
    server = serve("--graceful-timeout", "600")
    reader = Reader(Client(server.url), "long")
    poll(lambda: reader.begun)
    os.killpg(server.pid, signal.SIGINT)
    poll(lambda: "for answers: 1" in server.log)
    os.killpg(server.pid, signal.SIGINT)
    reader.finish()
    assert reader.stream.raw.endswith(b"retry: 200\n")
    server.wait()
    assert "SIGKILL" not in server.log
    assert "Traceback" not in server.log


def test_push_streams_are_told_to_come_back_at_once(serve: Callable[..., Gunicorn]) -> None:
    server = serve(*GRACE, **MARGIN)
    stream = Client(server.url).stream("/api/events")
    next(stream.blocks())
    server.signal(signal.SIGTERM)
    stream.all()
    assert stream.ended_cleanly
    assert stream.raw.endswith(b"retry: 200\n")
    assert server.wait() == 0


def test_workers_end_soon_after_their_master_was_killed(
    serve: Callable[..., Gunicorn], upstream: FakeUpstream
) -> None:
    """They free the port, also with an answer running."""
    upstream.script = Answers()
    server = serve(*GRACE, **MARGIN)
    reader = Reader(Client(server.url), "long")
    poll(lambda: reader.begun)
    workers = server.workers
    server.signal(signal.SIGKILL)
    reader.finish()
    poll(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers), 15)
    assert not _accepts(server.port)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
