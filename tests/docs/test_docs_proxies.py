"""The proxies of the deployment page: each passes streams on, and keeps strangers outside."""

import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.client import Client, joined
from tests.support.gunicorn import Gunicorn
from tests.support.proxies import KINDS, Place, program_of, proxy, write_file
from tests.support.shared_server import Site
from tests.support.upstream import FakeUpstream, by_hand, poll

Serve = Callable[..., Gunicorn]
NAMES = list(KINDS)
INSIDE = ("/metrics", "/%6detrics", "/metric%73", "//metrics", "/metrics?a", "/metrics/", "/readyz")
"""Paths, and other spellings of them, that are not for the outside."""


def readers(server: Gunicorn) -> int:
    """How many connections follow an answer."""
    metrics = Client(server.url).get("/metrics").body.decode()
    found = re.search(r"^chatapp_readers (\d+)$", metrics, re.M)
    assert found, metrics
    return int(found[1])


class Proxied(NamedTuple):
    """A visitor who comes through a proxy, and the server behind it."""

    visitor: Client
    server: Gunicorn
    url: str
    upstream: FakeUpstream


@pytest.fixture(params=NAMES, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    """A proxy's name."""
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def shared(name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, str]]:
    """A server and its address behind one of the proxies, for all tests of it."""
    # nginx alone notices at once that a reader has gone; the others when they write to it.
    beats = {} if name == "nginx" else {"CHATAPP_HEARTBEAT": "1"}
    folder = tmp_path_factory.mktemp("instance")
    site = Site(folder, CHATAPP_TRUSTED_PROXIES="1", **beats)
    with proxy(name, site.server, tmp_path_factory.mktemp("proxy")) as url:
        yield site, url
    site.close()


@pytest.fixture
def proxied(shared: tuple[Site, str]) -> Proxied:
    site, url = shared
    site.upstream.script = by_hand
    visitor = Client(url)
    assert visitor.get("/api/conversations").status == 200
    return Proxied(visitor, site.server, url, site.upstream)


def test_every_proxy_hands_every_piece_on_before_the_next_is_written(proxied: Proxied) -> None:
    stream = proxied.visitor.ask_streaming("slowly")
    events = iter(stream)
    assert next(events).event == "start"
    call = proxied.upstream.call("slowly")
    call.head()
    for text in ("One", " two", " three."):
        call.text(text)
        assert next(events).data == {"text": text}
    call.finish()
    end = next(events)
    assert end.event == "done", end
    stream.close()


def test_through_each_a_reader_who_goes_away_is_noticed_and_can_resume(proxied: Proxied) -> None:
    visitor, server, _, upstream = proxied
    calls = len(upstream.calls)
    stream = visitor.ask_streaming("in two parts")
    events = iter(stream)
    answer = next(events).data["answer_id"]
    call = upstream.call("in two parts")
    call.head()
    call.text("First")
    read = [next(events)]
    stream.close()
    poll(lambda: readers(server) == 0)
    call.text(", second.")
    call.finish()
    path = f"/api/answers/{answer}/events"
    rest = visitor.stream(path, Last_Event_ID=read[-1].id).all()
    assert joined(rest) == ", second."
    assert joined(read + rest) == "First, second."
    assert rest[-1].event == "done", rest
    assert visitor.get(path, Last_Event_ID=rest[-1].id).status == 204
    assert len(upstream.calls) == calls + 1


@pytest.mark.parametrize("name", [each for each in NAMES if each != "haproxy"], scope="module")
def test_a_body_over_the_limit_gets_our_error_through_each_but_haproxy(proxied: Proxied) -> None:
    reply = proxied.visitor.call("POST", "/api/chat", {"message": "x" * (2 << 20)})
    assert reply.status == 413
    assert reply.error["code"] == "body_too_large"


def test_below_a_path_of_nginx_links_and_cookies_begin_with_it(
    serve: Serve, tmp_path: Path
) -> None:
    changes = {
        "location / {": "location /tea/ {",
        "proxy_pass http://chat;": "proxy_pass http://chat/;",
        'X-Forwarded-Prefix "";': "X-Forwarded-Prefix /tea;",
    }
    with proxy("nginx", serve(CHATAPP_TRUSTED_PROXIES="1"), tmp_path, changes) as url:
        page = Client(url).get("/tea/")
        assert b'<chat-box src="/tea/"' in page.body
        assert "Path=/tea/" in page.headers["Set-Cookie"]
        assert (
            Client(url)
            .call("POST", "/tea/api/chat", {"message": "hi"})
            .json["events"]
            .startswith("/tea/api/answers/")
        )


def test_through_each_a_visitor_can_not_say_where_the_chat_is(proxied: Proxied) -> None:
    headers = {"X_Forwarded_Prefix": "/evil", "X_Forwarded_Host": "evil.example"}
    page = Client(proxied.url).get("/", X_Forwarded_Port="666", **headers)
    assert page.status == 200
    assert b"evil" not in page.body + str(page.headers).encode()
    assert b'<chat-box src="/"' in page.body


def test_each_tells_the_visitors_scheme_and_address(
    name: str, serve: Serve, tmp_path: Path
) -> None:
    server = serve(CHATAPP_TRUSTED_PROXIES="1", CHATAPP_RATE_LIMIT="1/hour")
    with proxy(name, server, tmp_path) as url:
        assert "Secure" in Client(url).get("/").headers["Set-Cookie"]
        statuses = []
        for number in range(2):
            told = {"X_Forwarded_For": f"192.0.2.{number}", "X_Forwarded_Proto": "http"}
            reply = Client(url).call("POST", "/api/chat", {"message": "hi"}, **told)
            statuses.append(reply.status)
    assert statuses == [202, 429]


def test_each_keeps_the_counters_to_the_inside(proxied: Proxied) -> None:
    for path in INSIDE:
        reply = proxied.visitor.get(path)
        assert reply.status in (308, 403, 404), path
        assert b"chatapp_" not in reply.body
        assert reply.status != 308 or reply.headers["Location"].endswith("/metrics")
    assert proxied.visitor.get("/healthz").status == 200
    assert Client(proxied.server.url).get("/metrics").status == 200


@pytest.mark.parametrize("header", ["PATH_INFO: /metrics", "SCRIPT_NAME: /api"])
def test_no_header_replaces_the_path_that_a_proxy_has_checked(
    proxied: Proxied, header: str
) -> None:
    # A header's underscore, which `Client` would take for a hyphen.
    head = {"Connection": f"close\r\n{header}"}
    with proxied.visitor.send("GET", "/api/metrics", **head) as sock:
        reply = b"".join(iter(lambda: sock.recv(65536), b""))
    assert reply.startswith(b"HTTP/1.1 404 ")
    assert b"chatapp_" not in reply


def test_each_asks_for_https_from_then_on(proxied: Proxied) -> None:
    for path in ("/", "/api/conversations", "/assets/chat.js", "/nowhere", "/metrics"):
        told = proxied.visitor.get(path).headers.get_all("Strict-Transport-Security")
        assert told == ["max-age=31536000"], path


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("nginx", {"rate=20r/s": "rate=1r/m", "burst=200": "burst=2"}),
        ("haproxy", {"gt 400": "gt 3"}),
    ],
)
def test_one_that_can_limits_the_requests_of_an_address(
    serve: Serve, tmp_path: Path, name: str, changes: dict[str, str]
) -> None:
    with proxy(name, serve(), tmp_path, changes) as url:
        statuses = [Client(url).get("/healthz").status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("nginx", {"chat_connections 100": "chat_connections 2"}),
        ("haproxy", {"gt 100": "gt 2"}),
    ],
)
def test_one_that_can_limits_the_connections_of_an_address(
    serve: Serve, tmp_path: Path, name: str, changes: dict[str, str]
) -> None:
    with proxy(name, serve(CHATAPP_HEARTBEAT="1"), tmp_path, changes) as url:
        streams = [Client(url).stream("/api/events") for _ in range(2)]
        assert [stream.status for stream in streams] == [200, 200]
        assert Client(url).get("/healthz").status == 429
        for stream in streams:
            stream.close()
        poll(lambda: Client(url).get("/healthz").status == 200)


def test_each_file_passes_the_proxys_own_check(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        file = write_file(kind, Place(tmp_path, listener, is_tls=True))
        checked = subprocess.run(
            kind.check(program_of(kind), file),
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr
    assert "[warn]" not in checked.stderr
