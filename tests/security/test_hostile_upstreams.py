"""What a model's server does wrong, by fault or intent, stays within bounds on both transports."""

import collections
import contextlib
import functools
import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.errors import ChatAppError, UpstreamInvalid
from chatapp.settings import Settings
from chatapp.upstream import client as upstream_client
from chatapp.upstream.advice import reported
from chatapp.upstream.client import Upstream
from chatapp.upstream.completion_stream import CompletionStream
from chatapp.upstream.model_catalog import chat_models
from chatapp.upstream.reports import Report
from chatapp.upstream.scrubbing import HIDDEN, scrubbed
from chatapp.upstream.sent_back import SentBack
from chatapp.upstream.tool_calls import ToolCalls
from chatapp.upstream.transport import Cancellation, FastTransport, StockTransport, guarded
from tests.support.hypothesis_settings import FEW
from tests.support.raw_upstreams import CHUNKED, HEAD, Peer, Server, chunk
from tests.support.upstream_client import HISTORY, NoLocalModel

KEY = "sk-secret-of-this-site"
GZIP = 31
Serve = Callable[[Callable[[Peer], Any]], Server]
Connect = Callable[..., Upstream]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts upstreams; each handles its connections as it is told."""
    with contextlib.ExitStack() as started:

        def start(handle: Callable[[Peer], Any]) -> Server:
            server = Server(handle)
            started.callback(server.close)
            return server

        yield start


@pytest.fixture(params=[StockTransport, FastTransport])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    transports: list[httpx2.BaseTransport] = []

    def transport() -> httpx2.BaseTransport:
        transports.append(request.param())
        return transports[-1]

    def make(server: Server, **options: Any) -> Upstream:
        settings = Settings(base_url=f"{server.url}/v1", api_key=KEY, **options)
        return Upstream(settings, transport, NoLocalModel(), None)

    yield make
    for each in transports:
        each.close()


def ask(upstream: Upstream) -> CompletionStream:
    return upstream.open("m", HISTORY, {}, Cancellation())


def text_of(upstream: Upstream) -> str:
    stream = ask(upstream)
    try:
        return "".join(text for _, text in stream)
    finally:
        stream.close()


def failure(upstream: Upstream) -> ChatAppError:
    with pytest.raises(ChatAppError) as caught:
        text_of(upstream)
    error = caught.value
    assert KEY not in error.message + error.seen
    assert error.seen.isprintable()
    return error


def event(data: Any) -> bytes:
    return chunk(b"data: %b\n\n" % json.dumps(data).encode())


def said(text: str) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}}]})


FINISHED = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})


def for_ever(*parts: bytes) -> Callable[[Peer], None]:
    """Sends the first part, and the second again and again until nobody listens."""

    def handle(peer: Peer) -> None:
        peer.read_request()
        first, *rest = parts
        peer.send(first)
        while True:
            peer.send(*rest)

    return handle


class TestCompression:
    @pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "GZIP", "identity, gzip", "x"])
    def test_that_nobody_asked_for_is_refused_and_never_undone(
        self, serve: Serve, connect: Connect, coding: str
    ) -> None:
        packer = zlib.compressobj(wbits=GZIP)
        bomb = packer.compress(b"\0" * (16 << 20)) + packer.flush()

        def handle(peer: Peer) -> None:
            assert b"accept-encoding: identity" in peer.read_request().lower()
            peer.send(HEAD, b"Content-Encoding: %b\r\n" % coding.encode())
            peer.send(b"Content-Length: %d\r\n\r\n" % len(bomb), bomb)

        error = failure(connect(serve(handle)))
        assert error.code == "upstream_invalid"
        assert "compressed" in error.seen

    @pytest.mark.parametrize("coding", ["identity", "Identity", ""])
    def test_that_is_none_is_taken(self, serve: Serve, connect: Connect, coding: str) -> None:
        def handle(peer: Peer) -> None:
            peer.read_request()
            peer.send(HEAD, b"Content-Encoding: %b\r\n" % coding.encode())
            peer.send(b"Transfer-Encoding: chunked\r\n\r\n")
            peer.send(said("Hi"), FINISHED, b"0\r\n\r\n")

        assert text_of(connect(serve(handle))) == "Hi"

    def test_of_a_refusal_leaves_its_status(self, serve: Serve, connect: Connect) -> None:
        packer = zlib.compressobj(wbits=GZIP)
        bomb = packer.compress(b"x" * (16 << 20)) + packer.flush()

        def handle(peer: Peer) -> None:
            peer.read_request()
            peer.send(
                b"HTTP/1.1 429 Busy\r\nContent-Encoding: gzip\r\nContent-Type: text/plain\r\n"
            )
            peer.send(b"Content-Length: %d\r\n\r\n" % len(bomb), bomb)

        assert failure(connect(serve(handle))).code == "upstream_busy"

    def test_of_a_list_of_models_is_refused(self, serve: Serve, connect: Connect) -> None:
        def handle(peer: Peer) -> None:
            peer.read_request()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx")

        with pytest.raises(UpstreamInvalid):
            connect(serve(handle)).default_model()


class TestWithoutAnEnd:
    def test_a_refusal_is_cut(self, serve: Serve, connect: Connect) -> None:
        head = b"HTTP/1.1 429 Busy\r\nTransfer-Encoding: chunked\r\n\r\n"
        upstream = connect(serve(for_ever(head, chunk(b"slow down, " * 1000))))
        tracemalloc.start()
        try:
            error = failure(upstream)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert error.code == "upstream_busy"
        assert len(error.seen) < 2000
        assert peak < 4 << 20

    def test_a_refusal_that_drips_is_taken_as_far_as_it_came(
        self, serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(guarded, "REFUSAL_SECONDS", 0.2)

        def handle(peer: Peer) -> None:
            peer.read_request()
            peer.send(b"HTTP/1.1 429 Busy\r\nContent-Length: 100\r\n\r\n", b"wait")
            peer.wait_until_closed()

        error = failure(connect(serve(handle)))
        assert (error.code, "wait" in error.seen) == ("upstream_busy", True)

    def test_a_list_of_models_is_refused(
        self, serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(upstream_client, "MAX_LIST_BYTES", 1 << 20)
        upstream = connect(serve(for_ever(CHUNKED, chunk(b"[" + b" " * 60_000))))
        with pytest.raises(UpstreamInvalid):
            upstream.default_model()

    def test_a_head_is_refused(self, serve: Serve, connect: Connect) -> None:
        upstream = connect(serve(for_ever(b"HTTP/1.1 200 OK\r\n", b"X-A: %b\r\n" % (b"b" * 900))))
        assert failure(upstream).code == "upstream_unreachable"

    def test_a_head_that_drips_takes_no_longer_than_silence(
        self, serve: Serve, connect: Connect
    ) -> None:
        def handle(peer: Peer) -> None:
            peer.read_request()
            peer.send(b"HTTP/1.1 200 OK\r\n")
            peer.sock.settimeout(0.1)
            for number in range(1000):
                peer.send(b"X-%d: a\r\n" % number if number < 200 else b"HTTP/1.1 103 H\r\n\r\n")
                with contextlib.suppress(TimeoutError):
                    if not peer.sock.recv(1):
                        return

        upstream = connect(serve(handle), upstream_timeout=0.6)
        assert failure(upstream).code == "upstream_timeout"

    def test_a_line_is_refused(self, serve: Serve, connect: Connect) -> None:
        upstream = connect(serve(for_ever(CHUNKED, chunk(b"data: " + b"x" * 60_000))))
        assert failure(upstream).code == "upstream_invalid"

    @pytest.mark.parametrize(
        "sign", [b": still here\n\n", b"data: {}\n\n", b"event: ping\n\n", b"\n", b"id: 1\n"]
    )
    def test_signs_of_life_are_not_an_answer(
        self, serve: Serve, connect: Connect, sign: bytes
    ) -> None:
        upstream = connect(serve(for_ever(CHUNKED, chunk(sign))), upstream_wordless=0.2)
        assert failure(upstream).code == "upstream_timeout"

    def test_signs_of_life_do_not_put_the_end_off(self, serve: Serve, connect: Connect) -> None:
        begin = CHUNKED + said("Hi") + said("!") + FINISHED
        assert text_of(connect(serve(for_ever(begin, chunk(b": more\n\n"))))) == "Hi!"

    @pytest.mark.parametrize("depth", [900, 5000, 100_000])
    def test_nesting_is_refused(self, serve: Serve, connect: Connect, depth: int) -> None:
        nested = b"[" * depth + b"]" * depth
        deep = b'{"choices":[{"delta":{"tool_calls":%b}}],"x":NaN}' % nested

        def handle(peer: Peer) -> None:
            peer.read_request()
            peer.send(CHUNKED, chunk(b"data: %b\n\n" % deep), b"0\r\n\r\n")

        assert failure(connect(serve(handle))).code in ("upstream_invalid", "upstream_cut")


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("place", ["http://127.0.0.1:{}/v1/x", "//127.0.0.1:{}/v1/x"])
    def test_to_another_origin_are_not_followed(
        self, serve: Serve, connect: Connect, status: int, place: str
    ) -> None:
        other = serve(lambda peer: peer.read_request())

        def handle(peer: Peer) -> None:
            peer.read_request()
            location = place.format(other.port).encode()
            peer.send(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n" % status)
            peer.send(b"Location: %b\r\n\r\n" % location)

        error = failure(connect(serve(handle)))
        assert (error.code, other.accepted) == ("upstream_address", 0)
        assert str(other.port) in error.seen

    def test_of_a_list_of_models_neither(self, serve: Serve, connect: Connect) -> None:
        other = serve(lambda peer: peer.read_request())

        def handle(peer: Peer) -> None:
            peer.read_request()
            peer.send(b"HTTP/1.1 307 X\r\nContent-Length: 0\r\n")
            peer.send(b"Location: http://127.0.0.1:%d/\r\n\r\n" % other.port)

        with pytest.raises(ChatAppError):
            connect(serve(handle)).default_model()
        assert other.accepted == 0

    def test_within_the_origin_are(self, serve: Serve, connect: Connect) -> None:
        def handle(peer: Peer) -> None:
            while request := peer.read_request():
                if b" /v1/" in request:
                    peer.send(b"HTTP/1.1 308 X\r\nContent-Length: 0\r\nLocation: /v2/x\r\n\r\n")
                else:
                    assert KEY.encode() in request
                    peer.send(CHUNKED, said("Hi"), FINISHED, b"0\r\n\r\n")

        assert text_of(connect(serve(handle))) == "Hi"


SECRETS = (
    KEY,
    "sk-proj-AbCdEf0123456789abcdef",
    "Bearer abcdef0123456789",
    "api-key: 0123456789abcdef",
    'api_key="0123456789abcdef"',
    "gsk_0123456789abcdefghij",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
)
CONTROLS = "\r\n\x00\x1b[31m\x7f\x85\u2028\u202e"


class TestReports:
    @pytest.mark.parametrize("secret", SECRETS)
    def test_of_a_refusal_have_no_keys_and_no_control_characters(
        self, serve: Serve, connect: Connect, secret: str
    ) -> None:
        words = f"No {secret} here{CONTROLS}Forged: line"
        body = json.dumps({"error": {"message": words}}, ensure_ascii=False).encode()

        def handle(peer: Peer) -> None:
            peer.read_request()
            peer.send(b"HTTP/1.1 400 X\r\nContent-Length: %d\r\n\r\n" % len(body), body)

        error = failure(connect(serve(handle)))
        assert secret.split()[-1].strip('"').rpartition('"')[2] not in error.seen + error.message
        assert HIDDEN in error.seen

    @pytest.mark.parametrize("secret", SECRETS)
    @pytest.mark.parametrize("form", ["error", "no chunk", "finish reason"])
    def test_of_a_stream_neither(
        self, serve: Serve, connect: Connect, secret: str, form: str
    ) -> None:
        words = f"fault {secret} x"
        sent = {
            "error": event({"error": {"message": words + CONTROLS}}),
            "no chunk": chunk(b"data: { %b\n\n" % words.encode()),
            "finish reason": event(
                {"choices": [{"index": 0, "delta": {}, "finish_reason": f"error {words}"}]}
            ),
        }[form]

        def handle(peer: Peer) -> None:
            peer.read_request()
            peer.send(CHUNKED, sent, b"0\r\n\r\n")

        error = failure(connect(serve(handle)))
        assert secret.split()[-1] not in error.seen + error.message

    @FEW
    @given(st.text(), st.sampled_from(SECRETS), st.text())
    def test_never_have_a_secret_in_the_clear(self, one: str, secret: str, other: str) -> None:
        shown = scrubbed(f"{one} {secret} {other}", (KEY,))
        assert secret not in shown
        assert shown.isprintable()


class TestToolCalls:
    def test_a_name_without_an_end_is_refused(self) -> None:
        calls = ToolCalls()
        fragments = [{"index": 0, "function": {"name": "ab"[n % 2]}} for n in range(100_000)]
        with pytest.raises(UpstreamInvalid):
            calls.take_delta(fragments, None)
        assert calls.fragments < 2000

    @pytest.mark.parametrize(
        "fragment",
        [
            {"index": 0},
            {"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}},
            {"index": 0, "function": {"name": "f", "arguments": "}"}},
            {"index": 0, "function": {"name": "f", "arguments": "{}}"}},
            {"index": 0, "function": {"arguments": "{}"}},
            {"index": 0, "x": "y"},
            {"index": 0, "function": {"x": "y"}},
        ],
        ids=repr,
    )
    def test_fragments_without_an_end_are_refused(self, fragment: dict[str, Any]) -> None:
        calls = ToolCalls()
        calls.take_delta([{"index": 0, "function": {"name": "f", "arguments": '{"a":"'}}], None)
        again = functools.partial(calls.take_delta, [fragment], None)
        with pytest.raises(UpstreamInvalid):
            collections.deque(iter(again, "never"), maxlen=0)
        assert calls.fragments <= 1 << 18

    def test_a_long_call_in_small_pieces_is_whole(self) -> None:
        calls = ToolCalls()
        arguments = json.dumps({"text": "}{" * 20_000})
        for at in range(0, len(arguments), 4):
            piece = {"name": "f", "arguments": arguments[at : at + 4]}
            calls.take_delta([{"index": 0, "id": "c", "function": piece}], None)
        [call] = calls.whole.values()
        assert (call.function.name, call.function.arguments) == ("f", arguments)

    @pytest.mark.parametrize("index", ["9" * 5000, 10**18, -1, 1e300, None, [], {}, True, "x"])
    def test_any_index_is_taken(self, index: Any) -> None:
        calls = ToolCalls()
        calls.take_delta([{"index": index, "function": {"name": "f", "arguments": "{}"}}], None)
        assert [call.function.name for call in calls.whole.values()] == ["f"]

    def test_an_index_with_a_huge_exponent_costs_nothing(
        self, serve: Serve, connect: Connect
    ) -> None:
        raw = (
            b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":1e999999999,'
            b'"function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}\n\n'
        )

        def handle(peer: Peer) -> None:
            peer.read_request()
            peer.send(CHUNKED, chunk(raw), b"0\r\n\r\n")

        stream = ask(connect(serve(handle)))
        assert list(stream) == []
        assert len(stream.tool_calls) == 1
        stream.close()


def test_what_is_sent_back_is_joined_in_place() -> None:
    kept = SentBack()
    block = {"type": "thinking", "thinking": "ab", "index": 0}
    for _ in range(20_000):
        kept.add({"signature_of_message": "xy", "blocks": [block], "deep": {"text": "z1"}})
    whole = kept.fields()
    assert whole["signature_of_message"] == "xy" * 20_000 or whole["signature_of_message"] == "xy"
    assert whole["blocks"] == [{"type": "thinking", "thinking": "ab" * 20_000, "index": 0}]


@pytest.mark.parametrize(
    "words",
    [
        f"Rate limit. Try again in {'9' * 5000}s",
        f"Rate limit. Try again in {'9' * 5000}m",
        f"Rate limit. Try again in 1.{'9' * 5000}s",
    ],
    ids=["s", "m", "fraction"],
)
def test_a_wait_without_an_end_is_none(words: str) -> None:
    error = reported({"message": words, "code": "9" * 5000})
    assert error.code == "upstream_busy"
    assert error.retry_after is None or error.retry_after < 10**9
    assert Report.of_object({"code": "4" * 5000}).status == 0


def test_names_of_models_that_can_t_be_shown_are_left_out() -> None:
    names = ["x" * (1 << 20), "a\nb", "a\x1b[0m", "\u202egood", "good"]
    assert chat_models(json.dumps({"data": [{"id": name} for name in names]}).encode()) == ["good"]
