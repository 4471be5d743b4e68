"""Pieces written past the server: the same bytes to the client, whichever way they come."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import Client, Sent, joined, parse_all
from tests.support.embedded_app import Served
from tests.support.upstream import Call, by_hand, poll

TOKENS = [f" word{number}" for number in range(40)]
SOURCE = '''
from gevent import monkey

monkey.patch_all()

from flask import Flask, request

from chatapp import ChatApp

flask = Flask("hosted")
ChatApp(flask)
ChatApp(flask, name="plain", url_prefix="/plain", options={"direct_writes": False})
yields = []


@flask.teardown_request
def look_back(error):
    assert error is None
    if request.path.endswith("/api/chat"):
        assert request.cookies == {}
        assert request.accept_mimetypes.best == "text/event-stream"
        request.get_json()
        request.get_data()


class Seen:
    """What the server is given of a response, block by block."""

    def __init__(self, blocks, changed):
        self.blocks, self.changed = blocks, changed

    def __iter__(self):
        for block in self.blocks:
            yields.append(block)
            yield b": seen\\n\\n" + block if self.changed else block

    def close(self):
        self.blocks.close()


def app(environ, start_response):
    if environ["PATH_INFO"] == "/yields":
        start_response("200 OK", [("Content-Type", "text/plain")])
        counted = str(len(yields)).encode()
        yields.clear()
        return [counted]
    response = flask(environ, start_response)
    if "HTTP_X_WATCH" not in environ:
        return response
    return Seen(response, environ["HTTP_X_WATCH"] == "change")
'''


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "access.log"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, log: Path) -> Iterator[Served]:
    access = ("--access-logfile", str(log), "--access-logformat", "%(m)s %({x-watch}i)s %(B)s")
    served = Served(tmp_path_factory.mktemp("hosted"), SOURCE, *access)
    served.upstream.script = by_hand
    yield served
    served.close()


def one_by_one(call: Call, wait_for: "Reading") -> None:
    """Say each token when the one before it has arrived, so that none are joined."""
    call.head()
    for number, token in enumerate(TOKENS):
        call.text(token)
        wait_for.pieces(number + 1)
    call.finish()


class Reading:
    """A client that reads the bytes of one streamed answer."""

    def __init__(
        self, site: Served, question: str, watch: str, version: str = "1.1", mount: str = ""
    ) -> None:
        body = b'{"message": "%b"}' % question.encode()
        host, _, port = site.url.removeprefix("http://").partition(":")
        self.received = b""
        self.sock = socket.create_connection((host, int(port)), timeout=20)
        head = (
            f"POST {mount}/api/chat HTTP/{version}\r\nHost: {host}\r\nAccept: text/event-stream\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"Connection: close\r\nX-Watch: {watch}\r\n\r\n"
        )
        self.sock.sendall(head.encode() + body)

    def more(self) -> bool:
        data = self.sock.recv(65_536)
        self.received += data
        return bool(data)

    def pieces(self, count: int) -> None:
        while self.received.count(b'{"text":') < count:
            assert self.more(), "the stream ended early"

    def body(self) -> bytes:
        """All of it, without the framing."""
        with self.sock:
            while self.more():
                pass
        head, _, body = self.received.partition(b"\r\n\r\n")
        if b"chunked" not in head:
            return body
        assert body.endswith(b"0\r\n\r\n")
        whole = b""
        while body:
            size, _, rest = body.partition(b"\r\n")
            whole += rest[: int(size, 16)]
            assert rest[int(size, 16) :][:2] == b"\r\n"
            body = rest[int(size, 16) + 2 :]
        return whole


def read(
    site: Served, question: str, watch: str, version: str = "1.1", mount: str = ""
) -> tuple[bytes, int]:
    """The bytes of an answer, and in how many blocks the server was given them."""
    Client(site.url).get("/yields")
    reading = Reading(site, question, watch, version, mount)
    one_by_one(site.upstream.call(question), reading)
    body = reading.body()
    return body, int(Client(site.url).get("/yields").body)


def told(events: list[Sent]) -> list[tuple[str, str, object]]:
    """What does not differ from answer to answer."""
    return [(each.id, each.event, each.data) for each in events if each.event != "start"]


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_most_pieces_never_go_through_the_server(site: Served, version: str) -> None:
    body, blocks = read(site, f"direct {version}", "count", version)
    assert joined(parse_all(body)) == "".join(TOKENS)
    assert blocks < len(TOKENS) / 2


def test_whoever_changes_the_bytes_gets_all_of_them(site: Served) -> None:
    body, blocks = read(site, "changed", "change")
    assert joined(parse_all(body)) == "".join(TOKENS)
    assert blocks >= len(TOKENS)
    assert body.count(b": seen\n\n") == blocks


def test_every_piece_goes_through_the_server_where_that_is_wanted(site: Served) -> None:
    body, blocks = read(site, "watched", "count", mount="/plain")
    assert joined(parse_all(body)) == "".join(TOKENS)
    assert blocks >= len(TOKENS)


def test_the_client_cannot_tell_which_way_a_piece_came(site: Served) -> None:
    direct, _ = read(site, "one way", "count")
    yielded, _ = read(site, "other way", "change")
    assert told(parse_all(direct)) == told(parse_all(yielded.replace(b": seen\n\n", b"")))


def test_the_access_log_counts_all_bytes(site: Served, log: Path) -> None:
    body, _ = read(site, "counted", "counting")
    logged = poll(lambda: re.search(r"POST counting (\d+)", log.read_text()))
    assert int(logged[1]) == len(body)


def test_who_looks_at_the_request_afterwards_breaks_no_stream(site: Served) -> None:
    """The body is gone by then, but nothing fails: see the application's teardown."""
    read(site, "looked back at", "count")
    assert "Traceback" not in site.server.log
