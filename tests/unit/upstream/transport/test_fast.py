"""What `FastTransport` promises beyond what httpx2 does: bounds, timeouts, and never waiting."""

import gc
import select
import socket
import threading
import time

import httpx2
import pytest

from chatapp.upstream.transport import Cancellation, Cancelled, current_cancellation, fast
from chatapp.upstream.transport.messages import MAX_HEAD_BYTES, MAX_HEADERS, ResponseParser
from chatapp.upstream.transport.sockets import AttachedSocket
from chatapp.upstream.transport.watchdog import Watchdog, Watched
from tests.support import fast_transport
from tests.support.fast_transport import OK, always, make_client
from tests.support.raw_upstreams import (
    CHUNKED,
    HEAD,
    WAIT,
    Outcome,
    Peer,
    chunk,
    server_context,
    serving,
)

client = fast_transport.client


def eventually(condition) -> bool:
    deadline = time.monotonic() + WAIT
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    return condition()


def test_beyond_max_connections_a_request_waits_for_its_turn():
    go_on = threading.Event()

    def handle(peer: Peer) -> None:
        while peer.read_request():
            peer.send(CHUNKED)
            assert go_on.wait(WAIT)
            peer.send(chunk(b"ok"), b"0\r\n\r\n")

    with serving(handle) as server, make_client(max_connections=1) as client:
        with client.stream("GET", server.url) as first:
            with pytest.raises(httpx2.PoolTimeout):
                client.get(server.url, timeout=httpx2.Timeout(WAIT, pool=0.02))
            second = Outcome(lambda: client.get(server.url))
            go_on.set()
            assert first.read() == b"ok"
        assert second.result().text == "ok"
        assert client.get(server.url).text == "ok"


def test_a_failed_request_gives_its_turn_back():
    with (
        serving(lambda peer: peer.read_request()) as server,
        make_client(max_connections=1) as client,
    ):
        for _ in range(3):
            with pytest.raises(httpx2.RemoteProtocolError):
                client.get(server.url, timeout=httpx2.Timeout(WAIT, pool=0.02))


def test_cancel_ends_the_wait_for_a_turn():
    with serving(always(CHUNKED)) as server, make_client(max_connections=1) as client:
        cancellation = Cancellation()

        def wait() -> None:
            current_cancellation.set(cancellation)
            client.get(server.url)

        with client.stream("GET", server.url):
            outcome = Outcome(wait)
            assert eventually(lambda: cancellation.close is not None)
            cancellation.cancel()
            with pytest.raises(Cancelled):
                outcome.result()
        with client.stream("GET", server.url, timeout=httpx2.Timeout(WAIT, pool=0.02)):
            pass


@pytest.mark.parametrize("length", ["2", "4"])
def test_a_request_body_that_contradicts_its_length_is_an_error(client, length):
    with serving(always(OK)) as server, pytest.raises(httpx2.LocalProtocolError):
        client.post(server.url, content=iter([b"abc"]), headers={"Content-Length": length})


@pytest.mark.parametrize(
    "parts",
    [
        (HEAD, b"X: 1\r\n" * MAX_HEADERS, b"\r\n"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_HEAD_BYTES // 10),),
        (CHUNKED, b"0\r\n", b"X: 1\r\n" * (MAX_HEAD_BYTES // 3)),
        (CHUNKED, b"1;" + b"x" * 2 * MAX_HEAD_BYTES),
    ],
    ids=["headers", "informational", "trailers", "extension"],
)
def test_what_an_upstream_can_make_us_read_without_an_end_is_bounded(client, parts):
    with serving(always(*parts)) as server, pytest.raises(httpx2.RemoteProtocolError):
        client.get(server.url)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\n",
        b"HTTP/1.1 200 OK\r\nX: \x01\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/2.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        b"\rHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 100 OK\r\n\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 100 OK\r\n\r\n\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
    ],
    ids=[
        "two framings",
        "two lengths",
        "folded",
        "bare LF",
        "control character",
        "version",
        "CR first",
        "line end first",
        "line ends first",
        "line end between",
        "line ends between",
    ],
)
@pytest.mark.parametrize("size", [1, 1000], ids=["byte by byte", "at once"])
def test_what_could_be_read_in_two_ways_is_refused(client, head, size):
    parts = [head[at : at + size] for at in range(0, len(head), size)]
    with serving(always(*parts, b"ok")) as server, pytest.raises(httpx2.RemoteProtocolError):
        client.get(server.url)


def test_a_finished_response_leaves_nothing_for_the_garbage_collector(client):
    with serving(always(OK)) as server:
        gc.collect()
        gc.disable()
        try:
            client.get(server.url)
            kept = [found for found in gc.get_objects() if type(found) is ResponseParser]
            assert kept == []
        finally:
            gc.enable()


class HastyWatchdog(Watchdog):
    """Waits a moment instead of the read timeout."""

    def __init__(self) -> None:
        super().__init__(tick=0.01)

    def watch(self, attached: AttachedSocket, timeout: float) -> Watched:
        assert timeout == WAIT
        return super().watch(attached, 0.05)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("head", [CHUNKED, HEAD + b"\r\n"], ids=["chunked", "until close"])
def test_a_long_read_timeout_strikes_in_the_body(monkeypatch, head, tls):
    monkeypatch.setattr(fast, "Watchdog", HastyWatchdog)
    closed = threading.Event()

    def handle(peer: Peer) -> None:
        peer.read_request()
        peer.send(head, chunk(b"hello"))
        peer.wait_until_closed()
        closed.set()

    with (
        serving(handle, server_context("127.0.0.1") if tls else None) as server,
        make_client() as client,
        client.stream("GET", server.url) as response,
    ):
        pieces = response.iter_raw()
        next(pieces)
        with pytest.raises(httpx2.ReadTimeout):
            list(pieces)
        assert closed.wait(WAIT)


def test_the_watchdog_bounds_reads_not_the_pauses_of_the_reader():
    watched = Watched(AttachedSocket(socket.socket(), None), timeout=10.0)
    assert not watched.overdue(100.0)
    assert not watched.overdue(200.0)
    watched.turn += 1  # a read begins
    assert not watched.overdue(201.0)
    assert not watched.overdue(210.9)
    assert watched.overdue(211.0)
    watched.turn += 1  # it ends
    assert not watched.overdue(300.0)
    watched.turn += 2  # another one, between two looks, then a pause
    assert not watched.overdue(400.0)
    watched.attached.close()


def test_the_watchdog_leaves_alone_what_it_was_told_to_forget():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        watchdog = Watchdog(tick=0.001)
        watched = watchdog.watch(AttachedSocket(ours, None), timeout=0.0)
        watchdog.forget(watched)
        watched.turn += 1
        watchdog.expire(watched)
        theirs.sendall(b"x")
        assert ours.recv(1) == b"x"
        assert not watched.expired


def test_the_watchdogs_thread_ends_with_nothing_to_watch_and_begins_again():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        watchdog = Watchdog(tick=0.001)
        for _ in range(2):
            watchdog.forget(watchdog.watch(AttachedSocket(ours, None), timeout=1.0))
            assert eventually(lambda: watchdog.running_in is None)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_a_body_can_be_read_without_ever_waiting(client, tls):
    go_on = threading.Event()

    def handle(peer: Peer) -> None:
        while peer.read_request():
            peer.send(CHUNKED, chunk(b"first"))
            assert go_on.wait(WAIT)
            peer.send(*(chunk(b"%d" % number) for number in range(50)), b"0\r\n\r\n")

    with serving(handle, server_context("127.0.0.1") if tls else None) as server:
        with client.stream("GET", server.url) as response:
            body = response.extensions["raw_body"].watchable()
            pieces: list[bytes] = []

            def read() -> bytes | None:
                while body.pending or select.select([body.descriptor], [], [], WAIT)[0]:
                    data = body.receive_now()
                    if data is not None:
                        return data
                return None

            assert read() == b"first"
            assert body.receive_now() is None
            go_on.set()
            while data := read():
                pieces.append(data)
        assert b"".join(pieces) == b"".join(b"%d" % number for number in range(50))
        assert client.get(server.url).status_code == 200
        assert server.accepted == 1


def test_a_read_that_does_not_wait_tells_of_broken_framing_at_once(client):
    """Also when nothing of the body came with it, so that no more bytes would wake the reader."""
    go_on = threading.Event()

    def handle(peer: Peer) -> None:
        peer.read_request()
        peer.send(CHUNKED, chunk(b"first"))
        assert go_on.wait(WAIT)
        peer.send(b"no size\r\n")
        peer.wait_until_closed()

    with serving(handle) as server, client.stream("GET", server.url) as response:
        body = response.extensions["raw_body"].watchable()
        while (data := body.receive_now()) is None:
            assert select.select([body.descriptor], [], [], WAIT)[0]
        assert data == b"first"
        go_on.set()
        assert select.select([body.descriptor], [], [], WAIT)[0]
        with pytest.raises(httpx2.RemoteProtocolError):
            body.receive_now()
