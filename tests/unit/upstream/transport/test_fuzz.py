"""Both transports make the same of any response: the same result, or the same class of error.

`FastTransport` is stricter where a message may mean two things to two readers. The list, with a
test for each, is `test_what_could_be_read_in_two_ways_is_refused`; the generator here makes none of
these, except in the test of damaged responses, which promises only the direction: what ours
accepts, the stock one accepts with the same result.
"""

import contextlib
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatapp.upstream.transport import FastTransport, StockTransport
from tests.support.hypothesis_settings import MANY
from tests.support.raw_upstreams import WAIT, Peer, Server, chunk, client_context

SETTINGS = settings(
    max_examples=MANY.max_examples,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Stage:
    """One server and one client for each transport, for many examples."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.server = Server(self.handle)
        trust = client_context()
        # A kept connection might be used just before the server closes it.
        transports = [
            StockTransport(ssl_context=trust),
            FastTransport(ssl_context=trust, max_idle=0),
        ]
        self.clients = [httpx2.Client(transport=each, timeout=WAIT) for each in transports]

    def handle(self, peer: Peer) -> None:
        """Close after each response, so that every connection has exactly one script."""
        peer.read_request()
        peer.send(*self.parts)

    def play(self, parts: list[bytes], method: str = "POST") -> list[Any]:
        self.parts = parts
        return [outcome(client, method, self.server.url) for client in self.clients]

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.server.close()


def outcome(client: httpx2.Client, method: str, url: str) -> Any:
    """Everything that a caller can see of a response."""
    body = b""
    try:
        with client.stream(method, url) as response:
            seen = (
                response.status_code,
                response.http_version,
                response.extensions["reason_phrase"],
                response.headers.raw,
            )
            try:
                for piece in response.iter_raw():
                    body += piece
            except httpx2.HTTPError as error:
                return (*seen, body, type(error))
            return (*seen, body, None)
    except httpx2.HTTPError as error:
        return type(error)


@pytest.fixture(scope="module")
def stage():
    with contextlib.closing(Stage()) as stage:
        yield stage


token = st.text("abcXYZ019-_!#$%&'*+.^`|~", min_size=1, max_size=12).map(str.encode)
text = st.text('abc XYZ\t,;="/\x80\xff', max_size=20).map(lambda value: value.encode("latin-1"))
FRAMING = {b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"keep-alive"}


@st.composite
def heads(draw) -> bytes:
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.0"]))
    status = draw(
        st.sampled_from([200, 201, 204, 206, 301, 304, 400, 401, 404, 429, 500, 599, 999])
    )
    reason = draw(st.sampled_from([b" OK", b" Not Quite", b" ", b"", b" \xe4"]))
    lines = [b"HTTP/%b %d%b" % (version, status, reason)]
    for name, value in draw(st.lists(st.tuples(token, text), max_size=5)):
        if name.lower() not in FRAMING:
            lines.append(draw(st.sampled_from([b"%b:%b", b"%b: %b", b"%b:\t%b  "])) % (name, value))
    if draw(st.booleans()):
        lines.append(b"Connection: " + draw(st.sampled_from([b"close", b"keep-alive"])))
    return b"\r\n".join(lines) + b"\r\n"


@st.composite
def responses(draw) -> bytes:
    """A well-formed response, maybe after informational ones."""
    informational = [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n"]
    before = b"".join(draw(st.lists(st.sampled_from(informational), max_size=2)))
    pieces = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    head = before + draw(heads())
    if framing == "length":
        body = b"".join(pieces)
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    if framing == "close":
        return head + b"\r\n" + b"".join(pieces)
    extension = draw(st.sampled_from([b"", b";a=b", b';a="b c"']))
    trailer = draw(st.sampled_from([b"", b"X-Trailer: 1\r\n"]))
    chunks = b"".join(chunk(piece).replace(b"\r\n", extension + b"\r\n", 1) for piece in pieces)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n" + trailer + b"\r\n"


@st.composite
def cuts(draw, data: bytes) -> list[bytes]:
    """The same bytes in several sends."""
    places = sorted(draw(st.sets(st.integers(0, len(data)), max_size=8)))
    return [data[i:j] for i, j in zip([0, *places], [*places, len(data)], strict=True) if i < j]


@SETTINGS
@given(data=st.data(), response=responses(), method=st.sampled_from(["GET", "POST"]))
def test_a_well_formed_response_gives_the_same_result(stage, data, response, method):
    stock, fast = stage.play(data.draw(cuts(response)), method)
    assert fast == stock
    assert fast[-1] is None


@SETTINGS
@given(data=st.data(), response=responses())
def test_a_response_that_ends_early_gives_the_same_result(stage, data, response):
    end = data.draw(st.integers(0, len(response)))
    stock, fast = stage.play(data.draw(cuts(response[:end])))
    assert fast == stock


@SETTINGS
@given(data=st.data(), response=responses(), rest=st.binary(min_size=1, max_size=30))
def test_what_follows_a_response_gives_the_same_result(stage, data, response, rest):
    stock, fast = stage.play(data.draw(cuts(response + rest)))
    assert fast == stock


@SETTINGS
@given(garbage=st.binary(max_size=60))
def test_garbage_gives_the_same_error(stage, garbage):
    stock, fast = stage.play([garbage])
    assert fast == stock


@SETTINGS
@given(data=st.data(), response=responses())
def test_a_damaged_response_is_never_taken_for_more_than_the_stock_one_does(stage, data, response):
    place = data.draw(st.integers(0, len(response) - 1))
    damage = data.draw(st.binary(min_size=0, max_size=3))
    damaged = response[:place] + damage + response[place + data.draw(st.integers(0, 2)) :]
    stock, fast = stage.play(data.draw(cuts(damaged)))
    if fast != stock:
        assert failed(fast) is httpx2.RemoteProtocolError


def failed(result: Any) -> type[Exception] | None:
    return result if isinstance(result, type) else result[-1]


def test_the_comparison_sees_the_body_and_the_error(stage):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    for result in stage.play([head + b"ok"]):
        assert result[-2:] == (b"ok", None)
    for result in stage.play([head + b"o"]):
        assert result[-2:] == (b"o", httpx2.RemoteProtocolError)
    for result in stage.play([]):
        assert result is httpx2.RemoteProtocolError
