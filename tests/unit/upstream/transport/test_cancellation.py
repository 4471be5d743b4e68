"""A request can be ended from outside in every phase, and the upstream sees it."""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable

import httpx2
import openai
import pytest

from chatapp.upstream.transport import (
    Cancellation,
    Cancelled,
    FastTransport,
    StockTransport,
    current_cancellation,
)
from tests.support.raw_upstreams import (
    CHUNKED,
    HEAD,
    WAIT,
    Outcome,
    Peer,
    chunk,
    client_context,
    full_backlog,
    server_context,
    serving,
)

NO_LIMIT = httpx2.Timeout(None)


@pytest.fixture(params=[StockTransport, FastTransport])
def client(request: pytest.FixtureRequest):
    with httpx2.Client(
        transport=request.param(ssl_context=client_context()), timeout=NO_LIMIT
    ) as client:
        yield client


def start(cancellation: Cancellation, run: Callable[[], object]) -> Outcome:
    def with_cancellation() -> object:
        current_cancellation.set(cancellation)
        return run()

    return Outcome(with_cancellation)


class Phase:
    """A server that brings its client to one phase, then waits for it to go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.closed = threading.Event()

    def headers(self, peer: Peer) -> None:
        peer.read_request()
        self.hold(peer)

    def silent(self, peer: Peer) -> None:
        peer.read_request()
        peer.send(CHUNKED, chunk(b"data: 1\n\n"))
        self.hold(peer)

    def silent_until_close(self, peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD, b"\r\n", b"data: 1\n\n")
        self.hold(peer)

    def streaming(self, peer: Peer) -> None:
        peer.read_request()
        peer.send(CHUNKED)
        with contextlib.suppress(OSError):
            for _ in range(int(WAIT / 0.002)):
                peer.send(chunk(b"data: 1\n\n"))
                self.reached.set()
                time.sleep(0.002)
        self.closed.set()

    def handshake(self, peer: Peer) -> None:
        peer.fill()
        self.hold(peer)

    def hold(self, peer: Peer) -> None:
        self.reached.set()
        peer.wait_until_closed()
        self.closed.set()


PHASES = ["headers", "silent", "silent_until_close", "streaming"]


@pytest.mark.parametrize(
    ("phase", "tls"), [("handshake", True), *itertools.product(PHASES, [False, True])]
)
def test_cancel_ends_the_request_in_every_phase_and_the_upstream_sees_it(client, phase, tls):
    record = Phase()
    context = server_context("127.0.0.1") if tls and phase != "handshake" else None
    with serving(getattr(record, phase), context, plain=tls) as server:
        cancellation = Cancellation()
        outcome = start(cancellation, lambda: client.post(server.url, json={}))
        assert record.reached.wait(WAIT)
        cancellation.cancel()
        with pytest.raises(Cancelled):
            outcome.result()
        assert record.closed.wait(WAIT)


def test_cancel_ends_connecting(client):
    with full_backlog() as port:
        cancellation = Cancellation()
        outcome = start(cancellation, lambda: client.get(f"http://127.0.0.1:{port}"))
        deadline = time.monotonic() + WAIT
        while cancellation.close is None and time.monotonic() < deadline:
            time.sleep(0.001)
        cancellation.cancel()
        with pytest.raises(Cancelled):
            outcome.result()


def test_cancelled_before_the_request_starts_no_connection_is_made(client):
    with serving(lambda peer: peer.read_request()) as server:
        cancellation = Cancellation()
        cancellation.cancel()
        with pytest.raises(Cancelled):
            start(cancellation, lambda: client.get(server.url)).result()
        assert server.accepted == 0


def test_cancel_after_the_end_of_the_response_does_nothing(client):
    def handle(peer: Peer) -> None:
        while peer.read_request():
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with serving(handle) as server:
        cancellation = Cancellation()
        assert start(cancellation, lambda: client.get(server.url)).result().text == "ok"
        cancellation.cancel()
        cancellation.cancel()
        assert client.get(server.url).text == "ok"


def test_cancel_reaches_a_body_that_another_thread_reads(client):
    record = Phase()
    with serving(record.silent) as server:
        cancellation = Cancellation()
        response = start(
            cancellation, lambda: client.send(client.build_request("GET", server.url), stream=True)
        ).result()
        pieces = response.iter_bytes()
        assert next(pieces) == b"data: 1\n\n"
        outcome = Outcome(lambda: next(pieces))
        cancellation.cancel()
        with pytest.raises(Cancelled):
            outcome.result()
        assert record.closed.wait(WAIT)


def test_the_sdk_raises_api_connection_error_caused_by_cancelled(client):
    record = Phase()
    with serving(record.headers) as server:
        api = openai.OpenAI(api_key="k", base_url=server.url, http_client=client, max_retries=0)
        cancellation = Cancellation()
        outcome = start(
            cancellation,
            lambda: api.chat.completions.create(model="m", messages=[], stream=True),
        )
        assert record.reached.wait(WAIT)
        cancellation.cancel()
        with pytest.raises(openai.APIConnectionError) as raised:
            outcome.result()
        assert isinstance(raised.value.__cause__, Cancelled)


def test_the_sdk_stream_raises_api_connection_error_when_cancelled(client):
    record = Phase()
    with serving(record.silent) as server:
        api = openai.OpenAI(api_key="k", base_url=server.url, http_client=client, max_retries=0)
        cancellation = Cancellation()
        outcome = start(
            cancellation,
            lambda: list(api.chat.completions.create(model="m", messages=[], stream=True)),
        )
        assert record.reached.wait(WAIT)
        cancellation.cancel()
        with pytest.raises(openai.APIConnectionError) as raised:
            outcome.result()
        assert isinstance(raised.value.__cause__, Cancelled)


def test_cancel_calls_the_close_once_and_hides_its_error():
    calls = []

    def close() -> None:
        calls.append(1)
        raise OSError

    cancellation = Cancellation()
    cancellation.attach(close)
    cancellation.cancel()
    cancellation.cancel()
    assert calls == [1]
    assert cancellation.cancelled


def test_detached_is_left_alone():
    calls = []
    cancellation = Cancellation()
    cancellation.attach(lambda: calls.append(1))
    cancellation.detach()
    cancellation.cancel()
    assert calls == []


def test_attach_after_cancel_closes_at_once_and_raises():
    calls = []
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(Cancelled):
        cancellation.attach(lambda: calls.append(1))
    assert calls == [1]
