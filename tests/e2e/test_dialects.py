"""What is odd about an upstream's answer is nothing that a visitor notices, or is told as it is."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.client import Client, joined
from tests.support.shared_server import Site, ended
from tests.support.upstream import Call, Script, poll, speak


@pytest.fixture(scope="module")
def site(start_site: Callable[..., Site]) -> Site:
    return start_site("-w", "2")


def messages(client: Client, conversation: str) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = client.get(f"/api/conversations/{conversation}").json["messages"]
    return kept


def reasoning(events: list[Any]) -> str:
    return "".join(event.data["text"] for event in events if event.event == "reasoning")


def test_thoughts_in_the_text_are_in_neither_history_nor_title(site: Site) -> None:
    site.upstream.script = speak("<thi", "nk>\nA greeting. ", "Be short.\n</think>", "\n\nHello!")
    visitor = site.visitor()
    events = visitor.ask_streaming("hi think").all()
    assert reasoning(events) == "A greeting. Be short."
    assert joined(events) == "Hello!"
    conversation = events[0].data["conversation_id"]
    kept = visitor.get(f"/api/conversations/{conversation}").json
    assert kept["title"] == "hi think – Hello!"
    answer = kept["messages"][-1]
    assert (answer["content"], answer["reasoning"]) == ("Hello!", "A greeting. Be short.")
    visitor.ask_streaming("and now, think?", conversation_id=conversation).all()
    (call,) = site.upstream.calls_for("and now, think?")
    assert [each["content"] for each in call.json["messages"]] == [
        "hi think",
        "Hello!",
        "and now, think?",
    ]


def test_thoughts_that_the_template_has_opened_are_known_when_they_have_ended(site: Site) -> None:
    """Whoever reads live gets a snapshot, whoever comes later as well, in either worker."""
    site.upstream.script = speak("A greeting.", "\n</think>\n\n", "Hello!")
    visitor = site.visitor()
    events = visitor.ask_streaming("hi template").all()
    *_, snapshot, end = events
    assert (snapshot.event, end.event) == ("snapshot", "done")
    assert snapshot.data["text"] == "Hello!"
    assert snapshot.data["reasoning"] == "A greeting."
    start = events[0].data
    for _ in range(6):
        later = visitor.stream(f"/api/answers/{start['answer_id']}/events").all()
        assert [event.event for event in later] == ["start", "snapshot", "done"]
        assert later[1].data["text"] == "Hello!"
    answer = messages(visitor, start["conversation_id"])[-1]
    assert (answer["content"], answer["reasoning"]) == ("Hello!", "A greeting.")


@pytest.mark.parametrize("granularity", ["token", "word", "sentence", "full"])
def test_a_snapshot_at_the_end_is_the_same_at_every_granularity(
    site: Site, granularity: str
) -> None:
    site.upstream.script = speak("One. Two.", "\n</think>\n\n", "Hello! You.")
    visitor = site.visitor()
    asked = visitor.ask(f"hi {granularity}")
    events = visitor.stream(f"{asked['events']}?granularity={granularity}").all()
    assert events[-2].data["text"] == "Hello! You."
    assert events[-1].event == "done"


def test_an_end_without_a_word_is_a_failure_that_may_be_tried_again(site: Site) -> None:
    visitor, asked = site.begin(speak(), "say nothing")
    snapshot = poll(ended(visitor, asked))
    assert snapshot["status"] == "failed"
    assert (snapshot["error"]["code"], snapshot["error"]["retryable"]) == ("upstream_empty", True)
    assert len(site.upstream.calls_for("say nothing")) == 1


def test_a_client_that_ends_lines_where_python_does_reads_an_answer(site: Site) -> None:
    text = "one\u2028two\u2029three\u0085four"
    visitor, asked = site.begin(speak(text), "odd lines")
    poll(ended(visitor, asked))
    for cursor in ("0", "999999"):  # all events; a snapshot
        body = visitor.get(asked["events"], Last_Event_ID=cursor).body
        assert body.decode().splitlines() == body.decode().split("\n")[:-1]
    assert messages(visitor, asked["answer"]["conversation_id"])[-1]["content"] == text


def whole(call: Call) -> None:
    """JSON, though a stream was asked for."""
    body = b'{"choices":[{"index":0,"message":{"content":"All at once."},"finish_reason":"stop"}]}'
    call.raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
    call.raw(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))


def many_ends(call: Call) -> None:
    call.head()
    for text in ("Two ", "words."):
        call.event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]})
    call.send(b"data: [DONE] \n\n")
    call.raw(b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("script", "text"), [(whole, "All at once."), (many_ends, "Two words.")], ids=["json", "ends"]
)
def test_one_question_is_one_request(site: Site, script: Script, text: str) -> None:
    question = f"asked once: {text}"
    visitor, asked = site.begin(script, question)
    snapshot = poll(ended(visitor, asked))
    assert (snapshot["text"], snapshot["status"]) == (text, "done")
    assert len(site.upstream.calls_for(question)) == 1
