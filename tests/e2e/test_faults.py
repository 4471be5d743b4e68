"""What goes wrong at the upstream: the visitor gets a documented code and a sentence to act on."""

import email.utils
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.support.client import Client, Sent, joined
from tests.support.shared_server import Site, ended
from tests.support.upstream import Call, Script, poll

SECRETS = ("sk-test", "SECRET-DETAIL", "/srv/models", "127.0.0.1", "/v1", "Traceback", "Error(")
RAW = "SECRET-DETAIL: key sk-test was refused by /srv/models/weights.bin"
ACTIONS = ("again", "Tell", "Choose", "Start", "may help")
"""Each message tells the visitor to do something; these are the ways to say it."""


@pytest.fixture(scope="module")
def site(start_site: Callable[..., Site]) -> Site:
    return start_site(CHATAPP_UPSTREAM_TIMEOUT="1", CHATAPP_START_WAIT="3")


def refusing(status: int, **headers: str) -> Script:
    return lambda call: call.refuse(status, RAW, **headers)


def silent(call: Call) -> None:
    call.wait_closed(30)


def garbage(call: Call) -> None:
    """Something that is no HTTP."""
    call.raw(b"\x00\xff\x16\x03" + RAW.encode() + b"\r\n\r\n")
    call.cut()


def hang_up(call: Call) -> None:
    call.reset()


class Refusal(NamedTuple):
    name: str
    script: Script
    status: int
    code: str
    retryable: bool = True


REFUSALS = [
    Refusal("401", refusing(401), 502, "upstream_auth", False),
    Refusal("403", refusing(403), 502, "upstream_auth", False),
    Refusal("404", refusing(404), 404, "upstream_model_not_found", False),
    Refusal("400", refusing(400), 400, "upstream_rejected", False),
    Refusal("429", refusing(429), 429, "upstream_busy"),
    Refusal("500", refusing(500), 502, "upstream_error"),
    Refusal("503", refusing(503), 503, "upstream_overloaded"),
    Refusal("silence", silent, 504, "upstream_timeout"),
    Refusal("garbage", garbage, 502, "upstream_unreachable"),
    Refusal("reset", hang_up, 502, "upstream_unreachable"),
]
refusals = pytest.mark.parametrize("case", REFUSALS, ids=[case.name for case in REFUSALS])
accepts = pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])


def assert_presentable(error: dict[str, Any], raw: bytes) -> None:
    """A person can act on it, and it tells nothing about the upstream."""
    assert any(word in error["message"] for word in ACTIONS), error
    assert error["message"].endswith(".")
    for secret in SECRETS:
        assert secret.encode() not in raw, raw


@accepts
@refusals
def test_what_the_upstream_refuses_at_once_is_an_http_error(
    site: Site, case: Refusal, accept: str
) -> None:
    """And nothing of the question stays: it can be asked again."""
    site.upstream.script = case.script
    visitor, question = site.visitor(), f"refused {case.name} {accept}"
    reply = visitor.call("POST", "/api/chat", {"message": question}, Accept=accept)
    assert (reply.status, reply.error["code"]) == (case.status, case.code)
    assert reply.headers["Content-Type"] == "application/json"
    assert_presentable(reply.error, reply.body + str(reply.headers).encode())
    assert len(site.upstream.calls_for(question)) == 1
    assert visitor.get("/api/conversations").json["conversations"] == []


def test_a_model_that_the_upstream_lacks_is_named(site: Site) -> None:
    site.upstream.script = refusing(404)
    reply = site.visitor().call("POST", "/api/chat", {"message": "which model"})
    assert reply.error["param"] == "model"
    assert "fake-model" in reply.error["message"]


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_is_passed_on(site: Site, status: int) -> None:
    site.upstream.script = refusing(status, Retry_After="20")
    reply = site.visitor().call("POST", "/api/chat", {"message": f"later {status}"})
    assert (reply.status, reply.headers["Retry-After"]) == (status, "20")
    if status == 429:
        assert "20 s" in reply.error["message"]


def test_retry_after_as_a_date_becomes_seconds(site: Site) -> None:
    date = email.utils.formatdate(time.time() + 600, usegmt=True)
    site.upstream.script = refusing(429, Retry_After=date)
    reply = site.visitor().call("POST", "/api/chat", {"message": "at a date"})
    assert reply.status == 429
    assert 500 < int(reply.headers["Retry-After"]) <= 601


def test_an_unreadable_retry_after_is_left_out(site: Site) -> None:
    site.upstream.script = refusing(429, Retry_After="soon")
    reply = site.visitor().call("POST", "/api/chat", {"message": "soon"})
    assert reply.status == 429
    assert "Retry-After" not in reply.headers


@pytest.fixture(scope="module")
def closed_port() -> Iterator[str]:
    """An address where nobody listens, and nobody else can begin to."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/v1"


def test_an_upstream_that_is_down_is_reported_and_the_rest_works(
    start_site: Callable[..., Site], closed_port: str
) -> None:
    site = start_site(url=closed_port)
    visitor = site.visitor()
    reply = visitor.call("POST", "/api/chat", {"message": "anybody there?"})
    assert (reply.status, reply.error["code"]) == (502, "upstream_unreachable")
    assert_presentable(reply.error, reply.body)
    assert closed_port.encode() not in reply.body
    assert visitor.get("/healthz").status == 200
    assert visitor.get("/").status == 200


def ask_and_read(site: Site, script: Script, question: str) -> tuple[list[Sent], bytes, Client]:
    site.upstream.script = script
    visitor = site.visitor()
    stream = visitor.ask_streaming(question)
    assert stream.status == 200
    return stream.all(), stream.raw, visitor


def begun(then: Callable[[Call], None]) -> Script:
    """A script that says the first half, and then lets something happen."""

    def script(call: Call) -> None:
        call.head()
        call.text("The first half")
        then(call)

    return script


def error_object(**fields: Any) -> Callable[[Call], None]:
    def send(call: Call) -> None:
        call.event({"error": {"message": RAW, **fields}})
        call.wait_closed(30)

    return send


def end_of_body(call: Call) -> None:
    """A complete HTTP response, but not a complete answer."""
    call.raw(b"0\r\n\r\n")


def done_without_reason(call: Call) -> None:
    call.send(b"data: [DONE]\n\n")
    call.raw(b"0\r\n\r\n")


def broken_json(call: Call) -> None:
    call.send(b'data: {"choices": [{"delta": SECRET-DETAIL\n\n')
    call.wait_closed(30)


def broken_chunking(call: Call) -> None:
    call.raw(b"SECRET-DETAIL\r\n")
    call.wait_closed(30)


BREAKS = [
    ("reset", Call.reset, "upstream_cut"),
    ("fin", Call.cut, "upstream_cut"),
    ("error", error_object(type="server_error"), "upstream_error"),
    ("busy", error_object(type="rate_limit_error", code=429), "upstream_busy"),
    ("end", end_of_body, "upstream_cut"),
    ("done", done_without_reason, "upstream_cut"),
    ("silence", silent, "upstream_timeout"),
    ("json", broken_json, "upstream_invalid"),
    ("chunking", broken_chunking, "upstream_cut"),
]
breaks = pytest.mark.parametrize(("name", "then", "code"), BREAKS, ids=[b[0] for b in BREAKS])


@breaks
def test_what_goes_wrong_in_mid_stream_is_a_failed_event(
    site: Site, name: str, then: Callable[[Call], None], code: str
) -> None:
    """It is never taken for a success, and the text so far is kept."""
    question = f"breaks {name}"
    events, raw, visitor = ask_and_read(site, begun(then), question)
    assert events[-1].event == "failed"
    assert events[-1].data["code"] == code
    assert events[-1].data["retryable"] is True
    assert_presentable(events[-1].data, raw)
    assert joined(events) == "The first half"
    snapshot = visitor.get(f"/api/answers/{events[0].data['answer_id']}").json
    assert (snapshot["status"], snapshot["text"]) == ("failed", "The first half")
    assert snapshot["error"] == events[-1].data
    conversation = visitor.get(f"/api/conversations/{events[0].data['conversation_id']}").json
    assert [m["content"] for m in conversation["messages"]] == [question, "The first half"]
    assert len(site.upstream.calls_for(question)) == 1


def html(call: Call) -> None:
    """A wrong address answers 200 with a page."""
    call.head(Content_Type="text/html")
    call.send(b"<html><title>SECRET-DETAIL</title><p>Welcome to /srv/models</p></html>")
    call.raw(b"0\r\n\r\n")


def nothing(call: Call) -> None:
    call.head()
    call.raw(b"0\r\n\r\n")


def binary(call: Call) -> None:
    call.head(Content_Type="application/octet-stream")
    call.send(bytes(range(256)) * 40)
    call.raw(b"0\r\n\r\n")


@pytest.mark.parametrize("script", [html, nothing, binary])
def test_a_reply_that_is_no_answer_is_a_failed_event(site: Site, script: Script) -> None:
    events, raw, _ = ask_and_read(site, script, f"no answer: {script.__name__}")
    assert [event.event for event in events] == ["start", "failed"]
    assert events[-1].data["code"] == "upstream_invalid"
    assert_presentable(events[-1].data, raw)


def test_a_refusal_that_comes_late_is_a_failed_event(start_site: Callable[..., Site]) -> None:
    """The reply has begun by then; a client that joins later gets the same end."""
    site = start_site(CHATAPP_START_WAIT="0.2")
    started = threading.Event()

    def script(call: Call) -> None:
        call.raw(b"HTTP/1.1 429 X\r\n")
        while not started.wait(0.2):
            call.raw(b"X-Wait: 1\r\n")
        call.raw(b"Retry-After: 20\r\nContent-Length: 13\r\n\r\nSECRET-DETAIL")

    site.upstream.script = script
    visitor = site.visitor()
    stream = visitor.ask_streaming("late refusal")
    events = iter(stream)
    start = next(events)
    started.set()
    end = list(events)
    stream.close()
    assert [event.event for event in end] == ["failed"]
    assert end[0].data["code"] == "upstream_busy"
    assert_presentable(end[0].data, stream.raw)
    again = visitor.stream(f"/api/answers/{start.data['answer_id']}/events").all()
    assert again == [start, *end]


def test_the_log_tells_the_operator_what_the_visitor_does_not_see(site: Site) -> None:
    site.upstream.script = refusing(500)
    site.visitor().call("POST", "/api/chat", {"message": "for the log"})
    poll(lambda: "status 500" in site.server.log and "SECRET-DETAIL" in site.server.log)


def _reports(call: Call) -> None:
    call.head()
    call.text("Part")
    call.event({"error": {"message": "SECRET-FAULT", "code": 500}})


def _babbles(call: Call) -> None:
    call.head()
    call.text("Part")
    call.send(b'data: {"choices": SECRET-NOISE\n\n')


@pytest.mark.parametrize(
    ("script", "detail"), [(_reports, "SECRET-FAULT"), (_babbles, "SECRET-NOISE")]
)
def test_the_log_names_the_answer_that_an_upstream_has_failed(
    site: Site, script: Script, detail: str
) -> None:
    client, answer = site.begin(script, f"names {detail}")
    poll(ended(client, answer))
    the_id = answer["answer"]["id"]
    lines = poll(lambda: [each for each in site.server.log.splitlines() if detail in each])
    assert f"answer {the_id}: " in lines[0]
    assert detail not in client.get(f"/api/answers/{the_id}/events").body.decode()
