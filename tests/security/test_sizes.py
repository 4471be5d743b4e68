"""What is too large, too deep or too many is refused, and leaves nothing in memory."""

import json
import random
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.support.client import Client
from tests.support.embedded_app import MakeHost, mounted
from tests.support.gunicorn import ROOT
from tests.support.shared_server import Site
from tests.support.upstream import FakeUpstream, poll, speak

CODES = {400: {"invalid_request", "unknown_field"}, 404: {"not_found"}, 413: {"body_too_large"}}
MAX_GROWTH = 8 << 20
"""Bytes that a worker may grow by in thousands of hostile requests, as its heap is fragmented. Each
of them kept would be several times as much."""
ROUNDS = 12


@pytest.fixture
def client(make_host: MakeHost, upstream: FakeUpstream) -> FlaskClient:
    app = make_host()
    mounted(app, upstream.url, body_max_bytes=300_000, message_max_chars=20_000)
    return app.test_client()


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


BIG = "x" * 20_001
BODIES: dict[str, Any] = {
    "body": {"message": "x" * 300_001},
    "message": {"message": BIG},
    "message-of-wide-characters": {"message": "👩" * 20_001},
    "messages": {"messages": [{"role": "user", "content": "a"}] * 1001},
    "content": {"messages": [{"role": "user", "content": BIG}]},
    "parts": {"messages": [{"role": "user", "content": nested(17)}]},
    "name": {"messages": [{"role": "user", "content": "a", BIG: "a"}]},
    "model": {"message": "a", "model": BIG},
    "conversation": {"message": "a", "conversation_id": "x" * 65},
    "regenerate": {"regenerate": "x" * 65},
    "edit": {"message": "a", "conversation_id": "a", "edit": "x" * 65},
    "effort": {"message": "a", "reasoning_effort": "x" * 17},
    "temperature": {"message": "a", "temperature": 10**4000},
    "max_tokens": {"message": "a", "max_tokens": 10**18},
    "field": {"message": "a", BIG: 1},
    "fields": {"message": "a"} | {f"field{n}": n for n in range(10_000)},
}
RAW = {
    "deep": b'{"message":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep-objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "number": b'{"message":"a","max_tokens":' + b"9" * 200_000 + b"}",
    "exponent": b'{"message":"a","temperature":1e999999}',
    "not-closed": b'{"message":"' + b"x" * 200_000,
    "keys": b"{" + b",".join(b'"message":"a"' for _ in range(20_000)) + b"}",
}


def clear(response: Any) -> str:
    """The code of a refusal; it says so within a few words."""
    error = json.loads(response.data)["error"]
    assert error["code"] in CODES[response.status_code], response.data[:200]
    assert len(response.data) < 1000
    return str(error["code"])


class TestRefusals:
    @pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
    def test_of_what_a_question_has_too_much_of(
        self, client: FlaskClient, upstream: FakeUpstream, body: dict[str, Any]
    ) -> None:
        clear(client.post("/chat/api/chat", json=body))
        assert upstream.calls == []

    @pytest.mark.parametrize("body", RAW.values(), ids=RAW.keys())
    def test_of_json_that_takes_too_much(self, client: FlaskClient, body: bytes) -> None:
        for method, path in (("POST", "chat"), ("POST", "conversations")):
            response = client.open(
                f"/chat/api/{path}", method=method, data=body, content_type="application/json"
            )
            if response.status_code != 202:  # A name given twice counts once.
                clear(response)

    def test_of_conversations_with_too_much(self, client: FlaskClient) -> None:
        path = f"/chat/api/conversations/{client.post('/chat/api/conversations').json['id']}"
        for body in (
            {"title": "x" * 201},
            {"settings": {"system_prompt": BIG}},
            {"settings": {"model": BIG}},
            {"settings": {f"field{n}": n for n in range(1000)}},
            {"settings": nested(5)},
            {"settings": {"system_prompt": nested(50)}},
            {"leaf": "x" * 65},
            {"title": "x" * 300_001},
        ):
            clear(client.patch(path, json=body))
        for query in (
            {"q": "x" * 201},
            {"limit": "201"},
            {"limit": "9" * 4000},
            {"cursor": "9" * 4000},
            {"cursor": f"1.{'x' * 4000}"},
        ):
            clear(client.get("/chat/api/conversations", query_string=query))

    def test_of_what_is_too_long_beside_the_body(self, client: FlaskClient) -> None:
        long = "x" * 100_000
        response = client.post(
            "/chat/api/chat", json={"message": "a"}, headers={"Idempotency-Key": long}
        )
        assert clear(response) == "invalid_request"
        response = client.post(f"/chat/api/chat?granularity={long}", json={"message": "a"})
        assert clear(response) == "invalid_request"
        for path in (
            f"answers/{long}",
            f"answers/{long}/events",
            f"answers/a/events?ticket={long}",
            f"answers/a/events?last_event_id={long}",
            f"conversations/{long}",
        ):
            response = client.get(f"/chat/api/{path}", headers={"Last-Event-ID": long})
            assert clear(response) == "not_found"

    def test_a_long_cookie_is_a_new_visitor_s(self, client: FlaskClient) -> None:
        headers = {"Cookie": f"chatapp_visitor={'x' * 100_000}; {'; '.join('a=b' * 5000)}"}
        response = client.get("/chat/api/conversations", headers=headers)
        assert response.json["conversations"] == []
        assert len(response.headers["Set-Cookie"]) < 300


@pytest.fixture(scope="module")
def site(start_site: Callable[..., Site]) -> Site:
    return start_site(
        CHATAPP_BODY_MAX_BYTES="100000",
        CHATAPP_RATE_LIMIT="10000/minute",
        CHATAPP_ANSWERS_KEPT="50",
        CHATAPP_PUSH_KEPT="50",
        CHATAPP_CORS_ORIGINS="https://friend.example",
    )


def memory(site: Site) -> int:
    """Bytes of the worker's own memory."""
    status = Path(f"/proc/{site.worker}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) << 10


def never_grows(site: Site, round_of: Callable[[Client], None], count: int) -> None:
    """Have the worker serve rounds of so many requests; the first ones fill its caches."""
    client = Client(site.url)
    for _ in range(2):
        round_of(client)
    before = memory(site)
    for _ in range(ROUNDS):
        round_of(client)
    grown = memory(site) - before
    assert grown < MAX_GROWTH, f"{ROUNDS * count} requests have left {grown >> 10} KB"


VISITS = 100
VISITORS = f"""
import gc, pathlib, random, sys, tracemalloc
from chatapp.service import service
from tests.support.embedded_app import host, mounted

service.LOOK_AGAIN = ()
app = host(pathlib.Path(sys.argv[1]))
mounted(app, sys.argv[2])

def visit():
    visitor, junk = app.test_client(), random.randbytes(200).hex()
    headers = {{"Origin": f"https://{{junk}}", "Last-Event-ID": junk, "User-Agent": junk}}
    answers = f"api/answers/{{junk}}", f"api/answers/{{junk[:16]}}"
    for path in ("", "api/page", "api/models", *answers, "api/conversations"):
        visitor.get(f"/chat/{{path}}?q={{junk[:100]}}&ticket={{junk}}", headers=headers)
    for body in ({{junk: 1}}, {{"regenerate": junk[:60]}}, {{"message": "a", "model": junk}}):
        visitor.post("/chat/api/chat", json=body)

def used():
    gc.collect()
    return tracemalloc.get_traced_memory()[0]

tracemalloc.start()
for _ in range(100):
    visit()
grown = []
for _ in range(3):
    before = used()
    for _ in range({VISITS}):
        visit()
    grown.append(used() - before)
print(min(grown))
"""


def test_not_a_word_is_kept_of_visitors_who_only_look(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Counted by the allocator of a process that does nothing else: no number for each of them.

    A cache that grows once in a while shows in one round; what is kept of each shows in all.
    """
    command = [sys.executable, "-c", VISITORS, str(tmp_path), upstream.url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 32 * VISITS


class TestMemory:
    """Of a real worker."""

    def test_does_not_grow_by_refusals(self, site: Site) -> None:
        """Long ids, keys, cursors, cookies and bodies, no two of them the same."""

        def one_round(client: Client) -> None:
            for _ in range(60):
                junk = random.randbytes(1900).hex()
                tail = {"Idempotency_Key": junk[:190], "Last_Event_ID": junk}
                client.cookie = f"chatapp_visitor={junk}"
                origin = {"Origin": f"https://{junk[:60]}.example"}
                assert client.get(f"/api/answers/{junk}", **tail).status == 404
                assert client.get(f"/api/answers/{junk[:60]}/events?ticket={junk}").status == 404
                assert client.get(f"/api/conversations/{junk}", **origin).status == 403
                assert client.get(f"/api/conversations?q={junk[:200]}").status == 200
                assert client.get(f"/{junk}").status == 404
                body = {"message": "a", junk: junk}
                assert client.call("POST", "/api/chat", body, **tail).status == 400
                body = {"message": junk * 30}
                assert client.call("POST", "/api/chat", body, **tail).status == 413
                body = {"message": "a", "conversation_id": junk[:64]}
                key = {"Idempotency_Key": junk[:190]}
                assert client.call("POST", "/api/chat", body, **key).status == 404
                assert client.call("POST", "/api/chat", {"message": "a"}, **origin).status == 403

        never_grows(site, one_round, 540)

    def test_does_not_grow_by_new_visitors(self, site: Site) -> None:
        """Each request comes from somebody who was never here: nothing is kept of them."""
        site.upstream.script = speak("Short.")

        def one_round(_client: Client) -> None:
            for _ in range(30):
                visitor = Client(site.url)
                assert visitor.get("/").status == 200
                assert visitor.cookie
                assert Client(site.url).get("/api/conversations").status == 200
                assert Client(site.url).get("/api/page").status == 200
                with visitor.request("GET", "/api/events") as stream:
                    assert stream.status == 200
                assert visitor.call("POST", "/api/conversations", {"title": "a"}).status == 201
                body = {"messages": [{"role": "user", "content": "a"}]}
                assert Client(site.url).call("POST", "/api/chat", body).status == 202

        never_grows(site, one_round, 180)

    def test_is_not_held_by_clients_that_send_nothing_more(self, site: Site) -> None:
        """Heads without an end, and bodies that never come, are one connection each."""
        before = site.open_files()

        def open_one(request: bytes) -> socket.socket:
            sock = socket.create_connection(("127.0.0.1", site.server.port))
            sock.sendall(request)
            return sock

        head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        socks = [open_one(b"GET /" + b"x" * 4000) for _ in range(20)]
        socks += [open_one(head + b"Content-Length: 90000\r\n\r\n{") for _ in range(20)]
        assert Client(site.url).get("/healthz").status == 200
        for sock in socks:
            sock.close()
        poll(lambda: site.open_files() <= before + 5)

    @pytest.mark.parametrize(
        "head",
        [
            b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"x" * 9000),
            b"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: %b\r\n\r\n" % (b"x" * 70_000),
            b"GET / HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (b"X-A: b\r\n" * 500),
            b"GET / HTTP/1.1\r\nHost: localhost\r\n%b: a\r\n\r\n" % (b"x" * 70_000),
        ],
        ids=["address", "cookie", "headers", "header's name"],
    )
    def test_heads_that_are_too_large_are_refused_by_the_server(
        self, site: Site, head: bytes
    ) -> None:
        with socket.create_connection(("127.0.0.1", site.server.port), timeout=10) as sock:
            try:
                sock.sendall(head)
                reply = sock.recv(1000)
            except ConnectionError:  # It has answered and closed before it had read all.
                return
        assert reply.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")) or not reply
