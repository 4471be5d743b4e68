"""The wire: replies in either form, to old and odd clients, and the routes beside the answers."""

import shutil
import subprocess
from collections.abc import Callable

import pytest

from tests.support.client import Client, joined, parse_all
from tests.support.shared_server import Site, ended
from tests.support.upstream import by_hand, poll, speak

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "private, no-store, no-transform",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "vary": "Cookie",
    "x-accel-buffering": "no",
    "x-content-type-options": "nosniff",
}
SERVERS_OWN = {"server", "date", "connection", "transfer-encoding"}
"""What gunicorn adds; the connection and its framing are its business."""


@pytest.fixture(scope="module")
def site(start_site: Callable[..., Site]) -> Site:
    started = start_site(CHATAPP_MODELS="fake-model,other-model")
    started.visitor(timeout=60)  # The first request makes the database, whatever the disk's pace.
    return started


def test_curl_shows_the_pieces_as_they_come(site: Site) -> None:
    """The command that the documentation gives, run as it is."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("There is no curl.")
    site.upstream.script = by_hand
    headers = ["-H", "Accept: text/event-stream", "-H", "Content-Type: application/json"]
    command = [program, "-sSN", *headers, "-d", '{"message":"curl"}', f"{site.url}/api/chat"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        call = site.upstream.call("curl")
        lines = iter(process.stdout)
        call.head()
        assert next(line for line in lines if line.startswith(b"event:")) == b"event: start\n"
        call.text("Piece")
        assert next(line for line in lines if b"Piece" in line) == b'data: {"text":"Piece"}\n'
        call.finish()
        rest = b"".join(lines)
    assert process.returncode == 0
    assert b"event: done\n" in rest
    assert b'"completion_tokens":11' in rest


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html", None])
def test_who_does_not_ask_for_a_stream_gets_json(site: Site, accept: str | None) -> None:
    site.upstream.script = speak("x")
    headers = {"Accept": accept} if accept else {}
    client = site.visitor()
    reply = client.call("POST", "/api/chat", {"message": "json"}, **headers)
    assert reply.status == 202
    assert set(reply.json) == {"answer", "events", "stop"}
    assert set(reply.json["answer"]) == {"id", "conversation_id", "status"}
    poll(ended(client, reply.json))


def test_the_headers_of_a_stream(site: Site) -> None:
    """Exactly the documented ones; also a client that takes compressed bytes gets none."""
    site.upstream.script = speak("x" * 5000)
    client = site.visitor()
    stream = client.ask_streaming("headers")
    stream.all()
    again = client.request(
        "GET",
        f"/api/answers/{stream.headers['X-Answer-Id']}/events",
        Accept_Encoding="gzip, br, zstd, deflate",
    )
    again.close()
    for headers in (stream.headers, again.headers):
        named = {name.lower(): value for name, value in headers.items()}
        ours = {name: value for name, value in named.items() if name not in SERVERS_OWN}
        assert ours == {**STREAM_HEADERS, "x-answer-id": stream.headers["X-Answer-Id"]}
    push = client.stream("/api/events")
    push.close()
    assert {name.lower() for name in push.headers} - SERVERS_OWN == set(STREAM_HEADERS)


def test_http_1_0_clients_get_the_stream_too(site: Site) -> None:
    """Without chunks; the end of the connection is the end, and `done` proves it complete."""
    client, answer = site.begin(speak("Old ", "client."), "http 1.0")
    with client.send("GET", answer["events"], version="1.0") as sock:
        raw = b""
        while block := sock.recv(65536):
            raw += block
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body.startswith(b"retry: 1000\n")
    assert joined(parse_all(body)) == "Old client."


def test_head_on_a_stream_sends_no_body_and_leaks_nothing(site: Site) -> None:
    client, answer = site.begin(by_hand, "head")
    call = site.upstream.call("head")
    call.head()
    poll(lambda: site.metric("readers") == 0)
    before = site.open_files()
    for path in [answer["events"], "/api/events"] * 20:
        reply = client.call("HEAD", path)
        assert (reply.status, reply.body) == (200, b"")
        assert reply.headers["Content-Type"] == STREAM_HEADERS["content-type"]
    assert site.metric("readers") == 0
    poll(lambda: site.open_files() <= before + 2)
    call.finish()
    poll(ended(client, answer))


def test_the_operations_routes(site: Site) -> None:
    visitor = Client(site.url)
    assert (visitor.get("/healthz").status, visitor.get("/readyz").status) == (200, 200)
    metrics = visitor.get("/metrics")
    assert metrics.headers["Content-Type"] == "text/plain; version=0.0.4"
    poll(lambda: site.metric("answers_running") == 0)
    assert visitor.cookie is None


def test_the_models_that_a_visitor_may_choose(site: Site) -> None:
    visitor = site.visitor()
    reply = visitor.get("/api/models").json
    assert reply["models"] == [{"id": "fake-model"}, {"id": "other-model"}]
    assert (reply["default"], reply["notice"]) == ("fake-model", None)
    refused = visitor.call("POST", "/api/chat", {"message": "which", "model": "gpt-99"})
    assert (refused.status, refused.error["param"]) == (400, "model")
    assert site.upstream.calls_for("which") == []


def test_what_is_not_there_is_told_in_the_error_body(site: Site) -> None:
    visitor = Client(site.url)
    for method, path, status, code in (
        ("GET", "/api/nothing", 404, "not_found"),
        ("GET", "/api/answers/none", 404, "not_found"),
        ("GET", "/api/answers/none/events", 404, "not_found"),
        ("POST", "/api/answers/none/stop", 404, "not_found"),
        ("GET", "/api/conversations/none", 404, "not_found"),
        ("PUT", "/api/chat", 405, "method_not_allowed"),
    ):
        reply = visitor.call(method, path)
        assert (reply.status, reply.error["code"]) == (status, code)
        assert set(reply.error) == {"code", "message", "param"}
