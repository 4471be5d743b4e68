"""What an OpenAI-compatible server streams is an answer in whatever form, or a failure."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.answers.events import EventType
from chatapp.settings import Settings
from chatapp.upstream.client import Upstream
from chatapp.upstream.completion_stream import TAIL_SECONDS
from chatapp.upstream.transport import StockTransport
from tests.support import upstream_client
from tests.support.hypothesis_settings import FEW
from tests.support.upstream import USAGE, Call, FakeUpstream, Script, speak
from tests.support.upstream_client import Connect, NoLocalModel, answer_of, ask, failure

TEXT, REASONING = EventType.TEXT, EventType.REASONING
connect = upstream_client.connect


def body(*lines: bytes, chunked: bool = True) -> Script:
    """A reply whose body is exactly these bytes, each part in a write of its own."""

    def script(call: Call) -> None:
        if chunked:
            call.head()
            for line in lines:
                call.send(line)
            call.raw(b"0\r\n\r\n")
        else:
            call.raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            call.raw(b"".join(lines))
            call.cut()

    return script


def data(chunk: Any) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


def delta(reason: str | None = None, **fields: Any) -> bytes:
    return data({"choices": [{"index": 0, "delta": fields, "finish_reason": reason}]})


STOP = delta("stop")
DONE = b"data: [DONE]\n\n"


class TestAnAnswer:
    @pytest.mark.parametrize(
        ("parts", "pieces"),
        [
            ([data({"choices": []}), delta(content="a"), STOP, DONE], [(TEXT, "a")]),
            ([data({"choices": [{}]}), delta(content="a"), STOP, DONE], [(TEXT, "a")]),
            ([b": comment\n\n", delta(content="a"), b":\n", STOP, DONE], [(TEXT, "a")]),
            ([delta(content="a").replace(b": {", b":{"), STOP, b"data:[DONE]\n\n"], [(TEXT, "a")]),
            (
                [delta(content="a").replace(b"\n", b"\r\n"), STOP.replace(b"\n", b"\r\n")],
                [(TEXT, "a")],
            ),
            ([delta(content="a").replace(b"\n", b"\r"), STOP.replace(b"\n", b"\r")], [(TEXT, "a")]),
            ([b"\xef\xbb\xbf" + delta(content="a"), STOP, DONE], [(TEXT, "a")]),
            ([b"id: 1\nevent: chunk\nretry: 5\n" + delta(content="a"), STOP], [(TEXT, "a")]),
            ([delta(content="a"), STOP], [(TEXT, "a")]),
            ([delta(content="a"), STOP[:-2]], [(TEXT, "a")]),
            ([delta(content="a"), STOP, DONE, b"data: garbage\n\n"], [(TEXT, "a")]),
            (
                [delta(reasoning_content="r"), delta(content="a"), STOP],
                [(REASONING, "r"), (TEXT, "a")],
            ),
            ([delta(reasoning="r"), delta("stop", content="a")], [(REASONING, "r"), (TEXT, "a")]),
            ([delta(refusal="No."), STOP, DONE], [(TEXT, "No.")]),
            ([delta("tool_calls", tool_calls=[{"index": 0, "function": {}}]), DONE], []),
            ([delta(content="\u2028\u0085\0"), STOP, DONE], [(TEXT, "\u2028\u0085\ufffd")]),
        ],
        ids=[
            "no choices",
            "no delta",
            "comments",
            "no space",
            "CRLF",
            "CR",
            "byte order mark",
            "other fields",
            "no [DONE]",
            "no last line end",
            "garbage after [DONE]",
            "reasoning_content",
            "reasoning",
            "refusal",
            "tool calls",
            "odd characters",
        ],
    )
    @pytest.mark.parametrize("chunked", [True, False])
    def test_is_read_in_every_form(
        self,
        connect: Connect,
        upstream: FakeUpstream,
        parts: list[bytes],
        pieces: list[tuple[EventType, str]],
        chunked: bool,
    ) -> None:
        upstream.script = body(*parts, chunked=chunked)
        got, stream = answer_of(connect())
        assert (got, stream.finish_reason) == (pieces, "stop")

    def test_has_the_providers_usage_or_an_estimate(
        self, connect: Connect, upstream: FakeUpstream
    ) -> None:
        assert answer_of(connect())[1].usage("Hello world.") == (USAGE, "provider")
        upstream.script = speak("abcde", usage=False)
        usage, source = answer_of(connect())[1].usage("abcde")
        assert source == "estimated"
        assert usage == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}

    @pytest.mark.parametrize(
        ("reason", "ours"), [("length", "length"), ("content_filter", "content_filter")]
    )
    def test_says_why_it_ended(
        self, connect: Connect, upstream: FakeUpstream, reason: str, ours: str
    ) -> None:
        upstream.script = speak("a", reason=reason)
        assert answer_of(connect())[1].finish_reason == ours

    def test_that_ended_is_whole_though_the_server_keeps_the_stream_open(
        self, connect: Connect, upstream: FakeUpstream
    ) -> None:
        """Some send usage long after the last word, or never."""

        def script(call: Call) -> None:
            call.head()
            call.send(delta(content="a") + STOP)
            assert call.wait_closed(30)

        upstream.script = script
        begun = time.monotonic()
        pieces, stream = answer_of(connect(upstream_timeout=30))
        assert (pieces, stream.finish_reason) == ([(TEXT, "a")], "stop")
        assert time.monotonic() - begun < 10 * TAIL_SECONDS

    @pytest.mark.parametrize("end", [Call.reset, Call.cut])
    def test_that_ended_is_whole_though_the_connection_broke_then(
        self, connect: Connect, upstream: FakeUpstream, end: Callable[[Call], None]
    ) -> None:
        def script(call: Call) -> None:
            call.head()
            call.send(delta(content="a"))
            call.send(STOP)
            goes_on.wait(30)
            end(call)

        goes_on = threading.Event()
        upstream.script = script
        stream = ask(connect())
        pieces = iter(stream)
        assert next(pieces) == (TEXT, "a")
        goes_on.set()
        assert list(pieces) == []
        assert stream.finish_reason in ("stop", None)
        stream.close()

    @pytest.mark.parametrize(
        ("parts", "code"),
        [
            ([delta(content="a"), data({"error": {"message": "x"}})], "upstream_error"),
            ([delta(content="a"), data({"error": {"code": 429}})], "upstream_busy"),
            ([delta(content="a"), delta("error")], "upstream_error"),
            ([delta(content="a"), DONE], "upstream_cut"),
            ([delta(content="a")], "upstream_cut"),
            ([delta(content="a"), b'data: {"choices": [{"del'], "upstream_invalid"),
            ([delta(content="a"), b"data: garbage\n\n"], "upstream_invalid"),
            ([DONE], "upstream_invalid"),
            ([], "upstream_invalid"),
            ([b"<html>Welcome</html>"], "upstream_invalid"),
            ([b'{"error": "no stream here"}'], "upstream_error"),
            ([b'{"detail": "no stream here"}'], "upstream_invalid"),
            ([bytes(range(256)) * 10], "upstream_invalid"),
            ([b"data: " + b"x" * (9 << 20)], "upstream_invalid"),
        ],
        ids=[
            "an error object",
            "busy in mid-stream",
            "broken off",
            "no finish reason",
            "no finish reason, no [DONE]",
            "JSON cut at the end",
            "garbage",
            "nothing but [DONE]",
            "nothing",
            "a web page",
            "an error as JSON",
            "a JSON reply",
            "noise",
            "an endless line",
        ],
    )
    def test_without_an_end_is_a_failure_and_never_a_success(
        self, connect: Connect, upstream: FakeUpstream, parts: list[bytes], code: str
    ) -> None:
        upstream.script = body(*parts)
        assert failure(connect()).code == code

    @pytest.mark.parametrize("end", [Call.reset, Call.cut])
    def test_whose_connection_breaks_is_cut(
        self, connect: Connect, upstream: FakeUpstream, end: Callable[[Call], None]
    ) -> None:
        def script(call: Call) -> None:
            call.head()
            call.text("a")
            end(call)

        upstream.script = script
        assert failure(connect()).code == "upstream_cut"

    def test_that_falls_silent_is_a_timeout(self, connect: Connect, upstream: FakeUpstream) -> None:
        def script(call: Call) -> None:
            call.head()
            call.text("a")
            call.wait_closed(30)

        upstream.script = script
        assert failure(connect(upstream_timeout=0.1)).code == "upstream_timeout"


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[FakeUpstream, Upstream]]:
    """One server and one way to it for all examples of a property."""
    fake, transport = FakeUpstream(), StockTransport()
    settings = Settings(api_key="k", base_url=fake.url)
    yield fake, Upstream(settings, lambda: transport, NoLocalModel(), None)
    transport.close()
    fake.close()


# Without ASCII-only JSON a cut also falls inside a character.
WIRE = delta(content="中😀") + b": x\r\n\r\n" + delta(content="é\u2028b") + STOP + DONE


@FEW
@given(st.lists(st.integers(1, len(WIRE) - 1), max_size=8))
def test_json_and_utf8_may_be_cut_anywhere(
    shared: tuple[FakeUpstream, Upstream], cuts: list[int]
) -> None:
    fake, way = shared
    fake.script = body(*(WIRE[a:b] for a, b in pairwise(sorted({0, len(WIRE), *cuts}))))
    assert answer_of(way)[0] == [(TEXT, "中😀é\u2028b")]
