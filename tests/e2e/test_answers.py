"""The main job over HTTP: ask, and read the answer as it is written."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.client import joined, parse_all
from tests.support.shared_server import Site, ended
from tests.support.upstream import USAGE, Call, by_hand, poll, speak


@pytest.fixture(scope="module")
def site(start_site: Callable[..., Site]) -> Site:
    return start_site(CHATAPP_HEARTBEAT="0.3", CHATAPP_MODELS="fake-model,other-model")


def forms(question: str) -> list[dict[str, Any]]:
    """The two ways to ask."""
    return [{"message": question}, {"messages": [{"role": "user", "content": question}]}]


@pytest.mark.parametrize("form", [0, 1], ids=["message", "messages"])
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_each_piece_arrives_before_the_next_is_said(site: Site, form: int, accept: str) -> None:
    """The upstream says nothing more until the client has read what it said last."""
    read = [threading.Event() for _ in range(3)]
    intime: list[bool] = []

    def script(call: Call) -> None:
        call.head()
        intime.append(read[0].wait(20))  # the start event, while the upstream is silent
        for text, event in (("one ", read[1]), ("two ", read[2])):
            call.text(text)
            intime.append(event.wait(20))
        call.finish()

    site.upstream.script = script
    client, body = site.visitor(), forms(f"pieces {form} {accept}")[form]
    response = client.request("POST", "/api/chat", body, Accept=accept)
    if accept == "application/json":
        assert response.status == 202
        with response:
            path = json.loads(response.read())["events"]
        response = client.request("GET", path)
    with response:
        raw = b""
        for event, awaited in zip(read, (b"event: start", b'"one"', b'"two"'), strict=True):
            while awaited not in raw:
                block = response.read1(65536)
                assert block, raw
                raw += block
            event.set()
        raw += response.read()
    assert intime == [True] * 3
    assert raw.startswith(b"retry: 1000\n")
    assert b"event: done" in raw


def test_the_stream_begins_though_the_upstream_has_not_even_sent_headers(site: Site) -> None:
    started = threading.Event()

    def script(call: Call) -> None:
        intime = started.wait(20)
        call.head()
        call.text("in time" if intime else "too late")
        call.finish()

    site.upstream.script = script
    stream = site.visitor().ask_streaming("no headers yet")
    events = iter(stream)
    assert next(events).event == "start"
    started.set()
    assert joined(list(events)) == "in time"
    stream.close()


def test_the_events_of_an_answer(site: Site) -> None:
    """`start` with the names, pieces, `done` with what the provider counted."""
    site.upstream.script = speak("Hello", " world", ".")
    client = site.visitor()
    stream = client.ask_streaming("events")
    first, *pieces, last = stream.all()
    assert (first.id, first.event) == ("1", "start")
    assert first.data["answer_id"] == stream.headers["X-Answer-Id"]
    assert first.data["model"] == "fake-model"
    assert set(first.data) == {"answer_id", "conversation_id", "model", "created_at"}
    assert {event.event for event in pieces} == {"message"}
    assert joined(pieces) == "Hello world."
    assert last.event == "done"
    assert last.data == {"finish_reason": "stop", "usage": USAGE, "usage_source": "provider"}
    assert [int(e.id) for e in (first, *pieces, last)] == list(range(1, len(pieces) + 3))
    asked = site.upstream.call("events").json
    assert asked["stream"] is True
    assert asked["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("given", "ours"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"), ("eos", "stop")],
)
def test_the_finish_reason_is_told(site: Site, given: str, ours: str) -> None:
    site.upstream.script = speak("x", reason=given)
    events = site.visitor().ask_streaming(f"reason {given}").all()
    assert events[-1].data["finish_reason"] == ours


def test_usage_is_estimated_where_the_provider_counts_nothing(site: Site) -> None:
    site.upstream.script = speak("twelve bytes", usage=False)
    data = site.visitor().ask_streaming("no usage").all()[-1].data
    assert data["usage_source"] == "estimated"
    assert data["usage"]["completion_tokens"] == 3


def test_options_reach_the_upstream(site: Site) -> None:
    site.upstream.script = speak("x")
    options = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 7, "reasoning_effort": "low"}
    site.visitor().ask_streaming("options", model="other-model", **options).all()
    asked = site.upstream.call("options").json
    assert {name: asked[name] for name in options} == options
    assert asked["model"] == "other-model"


def test_a_server_that_refuses_stream_options_is_asked_without(site: Site) -> None:
    def script(call: Call) -> None:
        if "stream_options" in call.json:
            call.refuse(400, "Unknown parameter: 'stream_options'.")
        else:
            speak("fine", usage=False)(call)

    site.upstream.script = script
    events = site.visitor().ask_streaming("quirk", model="other-model").all()
    assert joined(events) == "fine"
    assert len(site.upstream.calls_for("quirk")) == 2
    assert joined(site.visitor().ask_streaming("quirk 2", model="other-model").all()) == "fine"
    assert len(site.upstream.calls_for("quirk 2")) == 1


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_has_events_of_its_own(site: Site, field: str) -> None:
    def script(call: Call) -> None:
        call.head()
        call.text("Let me think. ", field)
        call.text("So.", field)
        call.text("Answer.")
        call.finish()

    client, answer = site.begin(script, f"think {field}")
    events = client.stream(answer["events"]).all()
    thoughts = [event.data["text"] for event in events if event.event == "reasoning"]
    assert "".join(thoughts) == "Let me think. So."
    assert joined(events) == "Answer."
    snapshot = poll(ended(client, answer))
    assert (snapshot["text"], snapshot["reasoning"]) == ("Answer.", "Let me think. So.")


def test_a_refusal_is_text(site: Site) -> None:
    def script(call: Call) -> None:
        call.head()
        call.text("I can't help with that.", "refusal")
        call.finish()

    site.upstream.script = script
    assert joined(site.visitor().ask_streaming("refuse").all()) == "I can't help with that."


def test_silence_is_filled_with_comments(site: Site) -> None:
    client, answer = site.begin(by_hand, "quiet")
    call = site.upstream.call("quiet")
    call.head()
    stream = client.stream(answer["events"])
    blocks = stream.blocks()
    while stream.raw.count(b": keep-alive\n") < 2:
        next(blocks)
    call.text("Back.")
    call.finish()
    for _ in blocks:
        pass
    stream.close()
    assert b"event: done" in stream.raw


def test_twenty_equal_requests_at_once_are_one_answer(site: Site) -> None:
    """With one key, and also later; the upstream is asked once."""
    site.upstream.script = speak("once ", "only", pause=0.01)
    client = site.visitor()
    together = threading.Barrier(20)

    def ask(number: int) -> tuple[str, Any]:
        together.wait(20)
        kind = "text/event-stream" if number % 2 else "application/json"
        reply = client.call(
            "POST", "/api/chat", {"message": "same"}, Accept=kind, Idempotency_Key="k-1"
        )
        if number % 2:
            return reply.headers["X-Answer-Id"], reply.body
        return reply.json["answer"]["id"], client.get(reply.json["events"]).body

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(20)))
    assert len({answer for answer, _ in answers}) == 1
    texts = {joined(parse_all(body)) for _, body in answers}
    assert texts == {"once only"}
    assert len(site.upstream.calls_for("same")) == 1
    late = client.call("POST", "/api/chat", {"message": "same"}, Idempotency_Key="k-1")
    assert late.json["answer"]["id"] == answers[0][0]
    conversations = client.get("/api/conversations").json["conversations"]
    assert len(conversations) == 1
    assert len(site.upstream.calls_for("same")) == 1


def test_a_key_stands_for_another_answer_when_another_visitor_uses_it(site: Site) -> None:
    site.upstream.script = speak("x")
    ids = {
        site.visitor()
        .call("POST", "/api/chat", {"message": "key of two"}, Idempotency_Key="k-2")
        .json["answer"]["id"]
        for _ in range(2)
    }
    assert len(ids) == 2
    assert len(site.upstream.calls_for("key of two")) == 2


def test_a_refused_question_may_be_asked_again_with_its_key(site: Site) -> None:
    client = site.visitor()
    site.upstream.script = lambda call: call.refuse(503)
    ask = {"message": "retry"}
    assert client.call("POST", "/api/chat", ask, Idempotency_Key="k-3").status == 503
    site.upstream.script = speak("x")
    assert client.call("POST", "/api/chat", ask, Idempotency_Key="k-3").status == 202
    assert len(site.upstream.calls_for("retry")) == 2
