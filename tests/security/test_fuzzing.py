"""Whatever bytes come in, the answer is ours: never a 500, a traceback or a worker that ends."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.client import Client
from tests.support.hypothesis_settings import CUTS, FEW, MANY, TEXTS, parts_of
from tests.support.shared_server import Site
from tests.support.upstream import speak

FIELDS = st.sampled_from(
    [
        "message",
        "messages",
        "model",
        "conversation_id",
        "regenerate",
        "edit",
        "temperature",
        "top_p",
        "max_tokens",
        "seed",
        "stop",
        "reasoning_effort",
        "response_format",
        "tools",
        "user",
    ]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([2**63, -(2**63) - 1, 10**400, 1e308])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS | st.just("\ud800")
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "tool", "x"]), "content": JSON},
        optional={"tool_calls": JSON, "tool_call_id": JSON, "name": JSON},
    ),
    max_size=4,
)
BODIES = st.dictionaries(FIELDS, JSON | MESSAGES | st.just("hi"), max_size=5)
SIZES = ["0", "1", "5", "A", "0x5", "+5", "-1", "", " 5", "5;a=b", "ffffffffffffffffff", "5_0"]
PIECES = (
    st.sampled_from([b"\r\n", b"\n", b"\r", b"0\r\n\r\n", b"X-A: b\r\n", b"\0"])
    | st.sampled_from(SIZES).map(lambda size: size.encode() + b"\r\n")
    | st.binary(max_size=8).map(lambda data: b"%x\r\n%b\r\n" % (len(data), data))
    | st.binary(max_size=8)
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for all; when it closes, its log must have no traceback."""
    folder = tmp_path_factory.mktemp("fuzzed")
    started = Site(folder, CHATAPP_MAX_RUNNING_PER_OWNER="1000")
    started.upstream.script = speak("Hi.")
    worker = started.worker
    yield started
    assert started.worker == worker
    started.close()


def exchange(site: Site, sent: list[bytes]) -> bytes:
    """What comes back for these bytes until the server closes; nothing more is sent."""
    with socket.create_connection(("127.0.0.1", site.server.port), timeout=20) as sock:
        try:
            for part in sent:
                sock.sendall(part)
            sock.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: sock.recv(65536), b""))
        except OSError:  # It has refused them, and is gone.
            return b""


def assert_ours(reply: bytes) -> None:
    """Each response that the bytes got is a success or says what was wrong with the request."""
    for head in reply.split(b"HTTP/1.1 ")[1:]:
        assert 200 <= int(head[:3]) < 500, reply


def head(*lines: bytes) -> bytes:
    """The head of a question."""
    ours = (b"POST /api/chat HTTP/1.1", b"Host: localhost", b"Connection: close")
    return b"\r\n".join([*ours, b"Content-Type: application/json", *lines]) + b"\r\n\r\n"


@given(st.lists(PIECES, max_size=8).map(b"".join), CUTS)
@MANY
def test_no_chunked_body_is_an_error_of_the_server(
    site: Site, body: bytes, cuts: list[int]
) -> None:
    chunked = head(b"Transfer-Encoding: chunked")
    assert_ours(exchange(site, [chunked, *parts_of(body, cuts)]))


@given(BODIES, CUTS)
@FEW
def test_a_body_is_the_same_in_whatever_chunks(
    site: Site, body: dict[str, Any], cuts: list[int]
) -> None:
    whole = json.dumps(body).encode()
    parts = [part for part in parts_of(whole, cuts) if part]
    chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
    chunked = exchange(site, [head(b"Transfer-Encoding: chunked"), *chunks, b"0\r\n\r\n"])
    plain = exchange(site, [head(b"Content-Length: %d" % len(whole)), whole])
    assert_ours(chunked)
    assert chunked[:12] == plain[:12]


@given(BODIES)
@MANY
def test_no_json_is_an_error_of_the_server(site: Site, body: dict[str, Any]) -> None:
    reply = Client(site.url).call("POST", "/api/chat", body)
    assert 200 <= reply.status < 500, (reply.status, reply.body)
    assert "error" in reply.json or reply.status == 202


@given(st.binary(max_size=200), st.sampled_from(["", "gzip", "deflate", "br"]))
@MANY
def test_no_bytes_are_an_error_of_the_server(site: Site, body: bytes, encoding: str) -> None:
    told = {"Content_Encoding": encoding} if encoding else {}
    for path in ("/api/chat", "/api/conversations"):
        reply = Client(site.url).call("POST", path, body, **told)
        assert 200 <= reply.status < 500, (reply.status, reply.body)


@given(st.lists(PIECES | st.sampled_from([b"GET ", b"/api/page ", b"HTTP/1.1\r\n"]), max_size=8))
@FEW
def test_no_bytes_instead_of_a_request_are_an_error_of_the_server(
    site: Site, pieces: list[bytes]
) -> None:
    assert_ours(exchange(site, pieces))
