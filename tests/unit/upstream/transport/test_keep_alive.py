"""`FastTransport` keeps connections that are clean, and repeats only what does no harm."""

import itertools
import os
import threading
import time

import httpx2
import pytest

from chatapp.upstream.transport import Cancellation, current_cancellation
from tests.support import fast_transport
from tests.support.fast_transport import OK, always, make_client
from tests.support.raw_upstreams import CHUNKED, WAIT, Outcome, Peer, chunk, server_context, serving

client = fast_transport.client


@pytest.mark.parametrize(
    "parts",
    [
        (OK,),
        (CHUNKED, chunk(b"ok"), b"0\r\n\r\n"),
        (b"HTTP/1.1 204 No\r\n\r\n",),
        (b"HTTP/1.1 100 Continue\r\n\r\n", OK),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",),
    ],
)
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_a_response_read_to_its_end_leaves_the_connection_for_the_next(client, parts, tls):
    with serving(always(*parts), server_context("127.0.0.1") if tls else None) as server:
        for _ in range(5):
            client.get(server.url)
        assert server.accepted == 1


@pytest.mark.parametrize(
    "parts",
    [
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",),
        (OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",),
        (OK + b"garbage",),
    ],
)
def test_a_connection_that_is_not_clean_is_not_used_again(client, parts):
    with serving(always(*parts)) as server:
        for _ in range(3):
            assert client.get(server.url).content == b"ok"
        assert server.accepted == 3


def test_bytes_that_come_while_idle_are_never_taken_for_a_response(client):
    sent = threading.Event()

    def handle(peer: Peer) -> None:
        while peer.read_request():
            peer.send(OK)
            time.sleep(0.01)
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
            sent.set()

    with serving(handle) as server:
        client.get(server.url)
        assert sent.wait(WAIT)
        assert client.get(server.url).content == b"ok"
        assert server.accepted == 2


def test_a_response_closed_early_is_not_followed_by_another_on_its_connection(client):
    with serving(always(CHUNKED, chunk(b"ok"))) as server:
        for _ in range(2):
            with client.stream("GET", server.url) as response:
                next(response.iter_bytes())
        assert server.accepted == 2


def test_a_cancelled_request_does_not_leave_its_connection(client):
    def handle(peer: Peer) -> None:
        while peer.read_request():
            peer.send(OK)

    with serving(handle) as server:
        cancellation = Cancellation()
        token = current_cancellation.set(cancellation)
        request = client.build_request("GET", server.url)
        response = client.send(request, stream=True)
        current_cancellation.reset(token)
        cancellation.cancel()
        response.close()
        client.get(server.url)
        assert server.accepted == 2


def test_drain_reads_the_tail_so_that_the_connection_is_kept(client):
    def handle(peer: Peer) -> None:
        while peer.read_request():
            peer.send(CHUNKED, chunk(b"data: [DONE]\n\n"))
            assert go_on.acquire(timeout=WAIT)
            peer.send(chunk(b"\n"), b"0\r\n\r\n")

    go_on = threading.Semaphore(0)
    with serving(handle) as server:
        for _ in range(3):
            with client.stream("GET", server.url) as response:
                body = response.extensions["raw_body"]
                assert body.read() == b"data: [DONE]\n\n"
                go_on.release()
                assert body.drain(WAIT)
        assert server.accepted == 1


FLOOD = chunk(b"x" * 100_000)


@pytest.mark.parametrize("tail", [b"", FLOOD, b"zz\r\n"], ids=["silence", "flood", "fault"])
def test_drain_is_bounded_in_time_and_hides_faults(client, tail):
    def handle(peer: Peer) -> None:
        peer.read_request()
        peer.send(CHUNKED, chunk(b"data: [DONE]\n\n"), tail)
        while tail == FLOOD:
            peer.send(tail)
        peer.wait_until_closed()

    with serving(handle) as server, client.stream("GET", server.url) as response:
        body = response.extensions["raw_body"]
        body.read()
        assert not body.drain(0.05)
        assert body.read() == b""


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_a_connection_that_the_server_closed_meanwhile_is_not_used_even_for_post(client, tls):
    seen: list[bytes] = []
    closed = threading.Semaphore(0)

    def handle(peer: Peer) -> None:
        seen.append(peer.read_request())
        peer.send(OK)
        peer.sock.close()
        closed.release()

    with serving(handle, server_context("127.0.0.1") if tls else None) as server:
        for _ in range(3):
            assert client.post(server.url).text == "ok"
            assert closed.acquire(timeout=WAIT)
        assert len(seen) == 3


def once_then_drop(seen: list[bytes]):
    """Answers the first request of the first connection, then drops the second without a word."""

    def handle(peer: Peer) -> None:
        first = not seen
        seen.append(peer.read_request())
        peer.send(OK)
        if first:
            seen.append(peer.read_request())
            return
        while peer.read_request():
            peer.send(OK)

    return handle


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_an_idempotent_request_is_repeated_once_when_a_kept_connection_breaks(client, method):
    seen: list[bytes] = []
    with serving(once_then_drop(seen)) as server:
        client.get(server.url)
        assert client.request(method, server.url).status_code == 200
    assert [request.split()[0].decode() for request in seen] == ["GET", method, method]


def test_a_post_that_may_have_been_seen_is_not_repeated(client):
    seen: list[bytes] = []
    with serving(once_then_drop(seen)) as server:
        client.get(server.url)
        with pytest.raises(httpx2.RemoteProtocolError):
            client.post(server.url, json={})
    assert [request.split()[0] for request in seen] == [b"GET", b"POST"]


def test_a_request_is_not_repeated_once_a_response_has_begun(client):
    seen: list[bytes] = []

    def handle(peer: Peer) -> None:
        seen.append(peer.read_request())
        peer.send(OK)
        seen.append(peer.read_request())
        peer.send(b"HTTP/1.1 2")

    with serving(handle) as server:
        client.get(server.url)
        with pytest.raises(httpx2.RemoteProtocolError):
            client.get(server.url)
    assert len(seen) == 2


def test_a_fresh_connection_that_breaks_is_not_repeated(client):
    seen: list[bytes] = []
    with (
        serving(lambda peer: seen.append(peer.read_request())) as server,
        pytest.raises(httpx2.RemoteProtocolError),
    ):
        client.get(server.url)
    assert len(seen) == 1


def test_no_more_than_max_idle_connections_are_kept():
    gone = threading.Semaphore(0)
    barrier = threading.Barrier(4)

    def handle(peer: Peer) -> None:
        while peer.read_request():
            barrier.wait(WAIT)
            peer.send(OK)
        gone.release()

    with serving(handle) as server, make_client(max_idle=1) as client:
        outcomes = [Outcome(lambda: client.get(server.url)) for _ in range(4)]
        for outcome in outcomes:
            outcome.result()
        assert all(gone.acquire(timeout=WAIT) for _ in range(3))
        assert not gone.acquire(blocking=False)


def test_an_idle_connection_expires():
    with serving(always(OK)) as server, make_client(idle_seconds=0) as client:
        client.get(server.url)
        client.get(server.url)
        assert server.accepted == 2


@pytest.mark.parametrize(("hint", "connections"), [(b"timeout=1", 2), (b"max=5, timeout=60", 1)])
def test_the_servers_keep_alive_hint_is_obeyed(client, hint, connections):
    head = b"HTTP/1.1 200 OK\r\nKeep-Alive: %b\r\nContent-Length: 0\r\n\r\n" % hint
    with serving(always(head)) as server:
        client.get(server.url)
        client.get(server.url)
        assert server.accepted == connections


def test_close_ends_the_idle_connections(client):
    gone = threading.Event()

    def handle(peer: Peer) -> None:
        while peer.read_request():
            peer.send(OK)
        gone.set()

    with serving(handle) as server:
        client.get(server.url)
        client.close()
        assert gone.wait(WAIT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_process_does_not_use_its_parents_idle_connections(client):
    connections = itertools.count(1)

    def handle(peer: Peer) -> None:
        always(CHUNKED, chunk(b"%d" % next(connections)), b"0\r\n\r\n")(peer)

    with serving(handle) as server:
        assert client.get(server.url).text == "1"
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = 0 if client.get(server.url).text == "2" else 1
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert client.get(server.url).text == "1"
