"""Stopping an answer: in every phase, by its owner only, or because nobody reads it."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.support.client import joined
from tests.support.shared_server import Site, ended
from tests.support.upstream import Call, Script, poll


def before_headers(call: Call) -> None:
    call.wait_closed(30)


def before_the_first_token(call: Call) -> None:
    call.head()
    call.wait_closed(30)


def in_mid_stream(call: Call) -> None:
    call.head()
    call.text("Half an ")
    call.wait_closed(30)


PHASES = [(before_headers, ""), (before_the_first_token, ""), (in_mid_stream, "Half an ")]
phases = pytest.mark.parametrize(("script", "text"), PHASES, ids=[s.__name__ for s, _ in PHASES])


@pytest.fixture(scope="module")
def site(start_site: Callable[..., Site]) -> Site:
    return start_site(CHATAPP_START_WAIT="0.2")


@phases
def test_stop_closes_the_upstream_and_keeps_the_text(
    site: Site, script: Script, text: str, record_property: Callable[[str, object], None]
) -> None:
    """The socket is closed, the partial text stays, and every reader gets the end."""
    question = f"stop {script.__name__}"
    visitor, answer = site.begin(script, question)
    path, call = f"/api/answers/{answer['answer']['id']}", site.upstream.call(question)
    stream = visitor.stream(answer["events"])
    events = iter(stream)
    seen = [next(events)]
    if text:
        seen.append(next(events))

    asked_at = time.monotonic()
    reply = visitor.call("POST", answer["stop"])
    assert reply.status == 202
    assert call.closed.wait(10), "the upstream's connection is open"
    record_property("upstream closed, s", f"{call.closed_at - asked_at:.4f}")

    seen += events
    stream.close()
    assert seen[-1].event == "done"
    assert seen[-1].data["finish_reason"] == "stopped"
    assert joined(seen) == text
    snapshot = visitor.get(path).json
    assert (snapshot["text"], snapshot["status"]) == (text, "stopped")
    assert snapshot["finish_reason"] == "stopped"
    assert len(site.upstream.calls_for(question)) == 1


@phases
def test_a_second_stop_is_harmless(site: Site, script: Script, text: str) -> None:
    question = f"stop twice {script.__name__}"
    visitor, answer = site.begin(script, question)
    if text:
        poll(lambda: visitor.get(answer["events"][: -len("/events")]).json["text"] == text)
    replies = [visitor.call("POST", answer["stop"]) for _ in range(2)]
    assert [reply.status for reply in replies] == [202, 202]
    snapshot = poll(ended(visitor, answer))
    assert (snapshot["text"], snapshot["status"]) == (text, "stopped")
    replies = [visitor.call("POST", answer["stop"])]
    assert replies[0].status == 202
    assert replies[0].json["answer"]["status"] == "stopped"
    assert visitor.get(answer["events"], Last_Event_ID=str(snapshot["last_event"])).status == 204


def test_a_stop_after_the_end_changes_nothing(site: Site) -> None:
    def script(call: Call) -> None:
        call.head()
        call.text("All of it.")
        call.finish()

    visitor, answer = site.begin(script, "already over")
    before = poll(ended(visitor, answer))
    assert visitor.call("POST", answer["stop"]).status == 202
    assert visitor.get(f"/api/answers/{before['id']}").json == before
    assert before["status"] == "done"


def test_a_stop_ends_a_reply_that_still_waits_for_the_upstream(
    start_site: Callable[..., Site],
) -> None:
    """Another tab learns the answer's id from the push channel, and stops it."""
    site = start_site(CHATAPP_START_WAIT="20")
    site.upstream.script = before_headers
    visitor = site.visitor()
    push = visitor.stream("/api/events")
    replies = []
    asking = threading.Thread(target=lambda: replies.append(visitor.ask_streaming("waits").all()))
    asking.start()
    started = next(event for event in push if event.event == "answer")
    push.close()
    assert site.upstream.call("waits")
    assert visitor.call("POST", f"/api/answers/{started.data['id']}/stop").status == 202
    asking.join(15)
    assert not asking.is_alive(), "the reply waited on after the stop"
    assert [event.event for event in replies[0]] == ["start", "done"]
    assert replies[0][-1].data["finish_reason"] == "stopped"


def test_a_stop_does_not_wait_for_a_connection(start_site: Callable[..., Site]) -> None:
    """The upstream's machine does not even take the connection."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # With its queue full, the kernel takes no more connections.
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        port = listener.getsockname()[1]
        site = start_site(
            url=f"http://127.0.0.1:{port}/v1",
            CHATAPP_START_WAIT="0.2",
            CHATAPP_UPSTREAM_CONNECT_TIMEOUT="100",
        )
        visitor = site.visitor()
        answer = visitor.ask("connecting")
        stream = visitor.stream(answer["events"])
        events = iter(stream)
        assert next(events).event == "start"
        assert visitor.call("POST", answer["stop"]).status == 202
        assert [event.data["finish_reason"] for event in events] == ["stopped"]
        stream.close()
        poll(lambda: site.metric("answers_running") == 0)


def test_nobody_else_can_stop_an_answer(site: Site) -> None:
    visitor, answer = site.begin(in_mid_stream, "not yours")
    reply = site.visitor().call("POST", answer["stop"])
    assert (reply.status, reply.error["code"]) == (404, "not_found")
    assert not site.upstream.call("not yours").closed.is_set()
    path = f"/api/answers/{answer['answer']['id']}"
    assert visitor.get(path).json["status"] in ("pending", "streaming")
    visitor.call("POST", answer["stop"])
    poll(ended(visitor, answer))


def test_the_next_question_has_the_partial_answer_in_its_history(site: Site) -> None:
    visitor, answer = site.begin(in_mid_stream, "first, stopped")
    path = answer["events"][: -len("/events")]
    poll(lambda: visitor.get(path).json["text"] == "Half an ")
    visitor.call("POST", answer["stop"])
    poll(ended(visitor, answer))
    conversation = answer["answer"]["conversation_id"]
    again = visitor.ask("then this", conversation_id=conversation)
    assert site.upstream.call("then this").json["messages"] == [
        {"role": "user", "content": "first, stopped"},
        {"role": "assistant", "content": "Half an "},
        {"role": "user", "content": "then this"},
    ]
    visitor.call("POST", again["stop"])
    poll(ended(visitor, again))


def test_an_abandoned_answer_is_stopped_and_a_followed_one_is_not(
    start_site: Callable[..., Site],
) -> None:
    site = start_site(CHATAPP_ABANDON_AFTER="0.5")
    go_on = threading.Event()

    def script(call: Call) -> None:
        call.head()
        call.text("Some text.")
        if call.prompt == "followed":
            go_on.wait(30)
            call.finish()
        else:
            call.wait_closed(30)

    follower, followed = site.begin(script, "followed")
    stream = follower.stream(followed["events"])
    events = iter(stream)
    assert next(events).event == "start"
    visitor, abandoned = site.begin(script, "abandoned")
    snapshot = poll(ended(visitor, abandoned))
    assert (snapshot["status"], snapshot["text"]) == ("stopped", "Some text.")
    assert site.upstream.call("abandoned").closed.wait(10)
    go_on.set()
    rest = list(events)
    stream.close()
    assert joined(rest) == "Some text."
    assert rest[-1].data["finish_reason"] == "stop"
