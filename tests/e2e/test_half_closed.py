"""Clients that close their half of the connection after the request read on; who has gone, has."""

import http.client
import itertools
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Sent, Stream, joined, parse_all
from tests.support.gunicorn import Gunicorn
from tests.support.shared_server import Site
from tests.support.upstream import Call, FakeUpstream, by_hand, poll

WORDS = [f"Word{number}. " for number in range(6)]
TEXT = "".join(WORDS)
SILENT = {"CHATAPP_HEARTBEAT": "600"}


@pytest.fixture(scope="module", params=["true", "false"])
def site(request: pytest.FixtureRequest, start_site: Callable[..., Site]) -> Site:
    """With direct writes, and without."""
    site = start_site(**SILENT, CHATAPP_DIRECT_WRITES=request.param)
    site.upstream.script = by_hand
    return site


class HalfClosed:
    """One stream, read by a client that sends nothing any more."""

    def __init__(self, sock: socket.socket) -> None:
        sock.shutdown(socket.SHUT_WR)
        self.sock = sock
        self.response = http.client.HTTPResponse(sock)
        self.response.begin()
        assert self.response.status == 200
        self.stream = Stream(self.response)
        self.blocks = self.stream.blocks()

    @classmethod
    def asking(cls, visitor: Client, message: str) -> "HalfClosed":
        body = json.dumps({"message": message})
        headers = {"Accept": "text/event-stream", "Content_Type": "application/json"}
        sock = visitor.send("POST", "/api/chat", Content_Length=str(len(body)), **headers)
        sock.sendall(body.encode())
        return cls(sock)

    @classmethod
    def following(cls, visitor: Client, answer: dict[str, Any]) -> "HalfClosed":
        return cls(visitor.send("GET", f"/api/answers/{answer['answer']['id']}/events"))

    def read_to(self, text: bytes) -> None:
        """Read until this has come; fails when the stream ends before."""
        while text not in self.stream.raw:
            assert next(self.blocks, b""), self.stream.raw

    def rest(self) -> list[Sent]:
        """Read to the end of the response; all events."""
        for _ in self.blocks:
            pass
        self.sock.close()
        assert self.stream.ended_cleanly
        return parse_all(self.stream.raw)


def finish(call: Call) -> None:
    for text in WORDS:
        call.text(text)
    call.finish()


def test_a_silent_stream_goes_on_and_says_at_once_that_it_does(site: Site) -> None:
    visitor = site.visitor()
    reader = HalfClosed.asking(visitor, "asked and half-closed")
    reader.read_to(b"\n: ")
    call = site.upstream.call("asked and half-closed")
    finish(call)
    events = reader.rest()
    assert events[-1].event == "done"
    assert joined(events) == TEXT


def test_a_stream_that_flows_goes_on(site: Site) -> None:
    visitor, answer = site.begin(by_hand, "flowing")
    call = site.upstream.call("flowing")
    call.head()
    call.text(WORDS[0])
    reader = HalfClosed.following(visitor, answer)
    for before, text in itertools.pairwise(WORDS):
        reader.read_to(before.strip().encode())
        call.text(text)
    call.finish()
    events = reader.rest()
    assert events[-1].event == "done"
    assert joined(events) == TEXT


def test_the_push_stream_goes_on(site: Site) -> None:
    visitor = site.visitor()
    reader = HalfClosed(visitor.send("GET", "/api/events"))
    reader.read_to(b"\n: ")
    visitor.ask("news")
    reader.read_to(b"started")
    site.upstream.call("news").finish()
    reader.read_to(b"finished")
    reader.sock.close()


def test_who_has_gone_is_noticed_at_once_though_nothing_is_written(site: Site) -> None:
    """Whole, or after it had closed its half and was read to."""
    visitor, answer = site.begin(by_hand, "left")
    site.wait_for_readers(0)
    stream = visitor.stream(f"/api/answers/{answer['answer']['id']}/events")
    next(stream.blocks())
    site.wait_for_readers(1)
    stream.close()
    site.wait_for_readers(0)
    half = HalfClosed.following(visitor, answer)
    half.read_to(b"\n: ")
    assert site.metric("readers") == 1
    half.response.close()
    half.sock.close()
    call = site.upstream.call("left")
    call.head()
    call.text("Into the void.")
    site.wait_for_readers(0)
    call.finish()


def test_an_answer_is_not_abandoned_while_a_half_closed_client_reads_it(
    serve: Callable[..., Gunicorn], upstream: FakeUpstream
) -> None:
    upstream.script = by_hand
    server = serve(**SILENT, CHATAPP_ABANDON_AFTER="0.5")
    readers = {}
    for message in ("stays", "goes"):
        readers[message] = HalfClosed.asking(Client(server.url), message)
        readers[message].read_to(b"\n: ")
    calls = {message: upstream.call(message) for message in readers}
    calls["goes"].text("Bye.")
    readers["goes"].read_to(b"Bye.")
    gone = readers["goes"]
    gone.response.close()
    gone.sock.close()
    calls["goes"].text("Into the void.")
    assert calls["goes"].wait_closed(), "the other's would have been stopped by now, too"
    finish(calls["stays"])
    events = readers["stays"].rest()
    assert events[-1].event == "done"
    assert joined(events) == TEXT


def test_at_a_unix_socket_who_has_gone_is_noticed_and_who_has_not_reads_on(
    serve: Callable[..., Gunicorn], upstream: FakeUpstream, tmp_path: Path
) -> None:
    upstream.script = by_hand
    path = str(tmp_path / "socket")
    server = serve("-b", f"unix:{path}", **SILENT)
    visitor = Client(server.url)
    answer = visitor.ask("at a unix socket")

    def follow() -> HalfClosed:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(30)
        sock.connect(path)
        line = f"GET /api/answers/{answer['answer']['id']}/events HTTP/1.1"
        sock.sendall(f"{line}\r\nHost: localhost\r\nCookie: {visitor.cookie}\r\n\r\n".encode())
        return HalfClosed(sock)

    gone, stays = follow(), follow()
    for reader in (gone, stays):
        reader.read_to(b"\n: ")
    gone.response.close()
    gone.sock.close()
    call = upstream.call("at a unix socket")
    call.head()
    call.text(WORDS[0])
    poll(lambda: b"chatapp_readers 1\n" in visitor.get("/metrics").body)
    for text in WORDS[1:]:
        call.text(text)
    call.finish()
    assert joined(stays.rest()) == TEXT
