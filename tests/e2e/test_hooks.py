"""Hooks of a real server: what they change, refuse and stop is so for every reader, everywhere."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Reply, joined
from tests.support.embedded_app import Served
from tests.support.upstream import USAGE, Call, poll, speak

HOST = """
import time

from flask import Flask

from chatapp import AnswerInfo, AnswerRequest, AnswerResult, ChatApp, Refused, StopAnswer

app = Flask(__name__)
app.secret_key = "the same everywhere"
app.config.update(CHATAPP_START_WAIT=5)
chat = ChatApp(app)


@chat.before_answer
def change(request: AnswerRequest) -> None:
    question = str(request.messages[-1]["content"])
    if question.startswith("refuse"):
        raise Refused("Not this.", status=451, param="message", retry_after=9)
    if question.startswith("fault"):
        raise RuntimeError("hunter2 at /srv/inside")
    if question.startswith("change"):
        request.model = "another-model"
        request.options["temperature"] = 0.25
        request.messages.insert(0, {"role": "system", "content": "Context."})
        request.messages[-1] = {"role": "user", "content": question + ", changed"}
    if question.startswith("block"):
        until = time.perf_counter() + 0.5
        while time.perf_counter() < until:
            pass


@chat.on_piece
def moderate(info: AnswerInfo, piece: str) -> None:
    text = info.state["text"] = info.state.get("text", "") + piece
    if "forbidden" in text:
        raise StopAnswer("This was stopped.")
    if "broken" in text:
        raise RuntimeError("hunter2 at /srv/inside")


def tell(kind: str, result: AnswerResult) -> None:
    about = {"kind": kind, "status": result.status, "text": result.text, "owner": result.owner}
    about |= {"model": result.model, "usage": result.usage, "finish": result.finish_reason}
    about |= {"code": result.error and result.error["code"], "id": result.answer_id}
    chat.publish("ended", about, to=result.owner)


@chat.after_answer
def after(result: AnswerResult) -> None:
    tell("after", result)


@chat.after_answer
def fail_after(result: AnswerResult) -> None:
    if result.text == "Fail after.":
        raise RuntimeError("hunter2 at /srv/inside")


@chat.on_failure
def failed(result: AnswerResult) -> None:
    tell("failed", result)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Four workers of an application with hooks."""
    served = Served(tmp_path_factory.mktemp("host"), HOST, "-w", "4")
    yield served
    served.close()


def told(client: Client, count: int = 1) -> list[dict[str, Any]]:
    """What the hooks at the end have told this visitor's pages."""
    ended = []
    with closing(client.stream("/api/events", Last_Event_ID="0")) as stream:
        for event in stream:
            if event.event == "ended":
                ended.append(event.data)
                if len(ended) == count:
                    break
    return ended


def left(site: Served) -> tuple[int, int]:
    """How many conversations and messages there are."""
    return tuple(
        site.rows(f"SELECT count(*) FROM chatapp_{table}")[0][0]
        for table in ("conversations", "messages")
    )


class TestBefore:
    def test_changes_what_the_model_is_asked_and_nothing_that_is_kept(self, site: Served) -> None:
        visitor = site.visitor()
        events = visitor.ask_streaming("change this").all()
        [call] = site.calls("change this, changed")
        assert call.json["model"] == "another-model"
        assert call.json["temperature"] == 0.25
        assert call.json["messages"] == [
            {"role": "system", "content": "Context."},
            {"role": "user", "content": "change this, changed"},
        ]
        assert events[0].data["model"] == "another-model"
        path = f"/api/conversations/{events[0].data['conversation_id']}"
        assert visitor.get(path).json["messages"][0]["content"] == "change this"

    def test_makes_no_second_system_message(self, site: Served) -> None:
        """Strict servers refuse one; so it is put in order after the hooks."""
        system = {"role": "system", "content": "Be brief."}
        visitor, question = site.visitor(), {"role": "user", "content": "change that"}
        body = {"messages": [system, question]}
        visitor.call("POST", "/api/chat", body, Accept="text/event-stream")
        [call] = site.calls("change that, changed")
        assert call.json["messages"] == [
            {"role": "system", "content": "Context.\n\nBe brief."},
            {"role": "user", "content": "change that, changed"},
        ]

    @pytest.mark.parametrize("form", ["message", "messages"])
    def test_a_refusal_reaches_the_client_and_leaves_nothing(self, site: Served, form: str) -> None:
        visitor = site.visitor()
        body: dict[str, Any] = {"message": "refuse"}
        if form == "messages":
            body = {"messages": [{"role": "user", "content": "refuse"}]}
        before = left(site)
        for accept in ("text/event-stream", "application/json"):
            reply = visitor.call("POST", "/api/chat", body, Accept=accept)
            assert reply.status == 451
            expected = {"code": "refused", "message": "Not this.", "param": "message"}
            assert reply.error == expected
            assert reply.headers["Retry-After"] == "9"
        poll(lambda: left(site) == before)
        assert visitor.get("/api/conversations").json["conversations"] == []
        assert site.calls("refuse") == []

    def test_a_refusal_in_a_conversation_leaves_it_as_it_was(self, site: Served) -> None:
        visitor = site.visitor()
        first = visitor.ask_streaming("first").all()[0].data
        path = f"/api/conversations/{first['conversation_id']}"
        before = visitor.get(path).json
        for body in (
            {"message": "refuse"},
            {"message": "refuse", "edit": before["messages"][0]["id"]},
        ):
            asked = body | {"conversation_id": first["conversation_id"]}
            assert visitor.call("POST", "/api/chat", asked).status == 451
            poll(lambda: visitor.get(path).json["messages"] == before["messages"])
        again = visitor.ask_streaming("second", conversation_id=first["conversation_id"]).all()
        assert joined(again) == "Hello world."

    def test_whoever_joins_by_key_on_any_worker_is_refused_alike(self, site: Served) -> None:
        visitor = site.visitor()
        visitor.ask("first")

        def ask(_number: int) -> Reply:
            client = Client(site.url)
            client.cookie = visitor.cookie
            body = {"message": "refuse by key"}
            return client.call("POST", "/api/chat", body, Idempotency_Key="one")

        with ThreadPoolExecutor(16) as threads:
            replies = list(threads.map(ask, range(32)))
        seen = {(each.status, each.body, each.headers["Retry-After"]) for each in replies}
        assert len(seen) == 1
        assert replies[0].status == 451
        assert len(visitor.get("/api/conversations").json["conversations"]) == 1

    def test_a_fault_counts_as_a_refusal_and_says_nothing(self, site: Served) -> None:
        visitor = site.visitor()
        reply = visitor.call("POST", "/api/chat", {"message": "fault"})
        assert (reply.status, reply.error["code"]) == (500, "internal")
        assert b"hunter2" not in reply.body
        assert site.calls("fault") == []
        poll(lambda: "hosted:change failed" in site.server.log)


class TestPieces:
    @pytest.mark.parametrize(("word", "code"), [("forbidden", "moderated"), ("broken", "internal")])
    def test_one_that_may_not_be_shown_ends_the_answer(
        self, site: Served, word: str, code: str
    ) -> None:
        """What was shown stays, nothing comes after it, and the upstream is closed."""
        question, calls = f"say {word}", []

        def script(call: Call) -> None:
            calls.append(call)
            call.head()
            for text in ("All is well. ", word[:4], word[4:], " and more"):
                call.text(text)
            call.wait_closed(30)

        site.scripts[question] = script
        visitor = site.visitor()
        events = visitor.ask_streaming(question).all()
        assert (events[-1].event, events[-1].data["code"]) == ("failed", code)
        assert joined(events) == f"All is well. {word[:4]}"
        assert "hunter2" not in str(events)
        poll(lambda: calls and calls[0].closed.is_set())
        answer = events[0].data["answer_id"]
        site.wait_until_written(answer)
        for _ in range(8):
            snapshot = visitor.get(f"/api/answers/{answer}").json
            assert snapshot["text"] == f"All is well. {word[:4]}"
            assert (snapshot["status"], snapshot["error"]["code"]) == ("failed", code)
            again = visitor.stream(f"/api/answers/{answer}/events").all()
            assert (joined(again), again[-1].data) == (joined(events), events[-1].data)
        path = f"/api/conversations/{events[0].data['conversation_id']}"
        assert visitor.get(path).json["messages"][-1]["content"] == snapshot["text"]

    def test_other_answers_go_on(self, site: Served) -> None:
        release = threading.Event()

        def slow(call: Call) -> None:
            call.head()
            call.text("Begun, ")
            release.wait(30)
            call.text("and ended.")
            call.finish()

        site.scripts |= {"slow": slow, "stopped": speak("forbidden")}
        streams = [site.visitor().ask_streaming("slow") for _ in range(8)]
        assert site.visitor().ask_streaming("stopped").all()[-1].data["code"] == "moderated"
        release.set()
        assert {joined(stream.all()) for stream in streams} == {"Begun, and ended."}


class TestEnds:
    def test_are_told_with_all_that_is_known(self, site: Served) -> None:
        visitor = site.visitor()
        events = visitor.ask_streaming("a good end").all()
        [about] = told(visitor)
        assert about.pop("owner").startswith("visitor:")
        assert about == {
            "kind": "after",
            "status": "done",
            "text": "Hello world.",
            "model": "fake-model",
            "usage": USAGE,
            "finish": "stop",
            "code": None,
            "id": events[0].data["answer_id"],
        }

    def test_of_answers_that_fail_are_told_as_failures(self, site: Served) -> None:
        def cut(call: Call) -> None:
            call.head()
            call.text("Half")
            call.cut()

        site.scripts["cut"] = cut
        visitor = site.visitor()
        visitor.ask_streaming("cut").all()
        [about] = told(visitor)
        assert (about["kind"], about["status"], about["text"]) == ("failed", "failed", "Half")
        assert about["code"] == "upstream_cut"

    def test_of_answers_that_are_stopped_are_told_as_ends(self, site: Served) -> None:
        def endless(call: Call) -> None:
            call.head()
            call.text("Half")
            call.wait_closed(30)

        site.scripts["endless"] = endless
        visitor = site.visitor()
        answer = visitor.ask("endless")
        assert visitor.call("POST", answer["stop"]).status == 202
        [about] = told(visitor)
        assert (about["kind"], about["status"]) == ("after", "stopped")

    def test_of_refusals_are_told_to_nobody(self, site: Served) -> None:
        visitor = site.visitor()
        assert visitor.call("POST", "/api/chat", {"message": "refuse"}).status == 451
        visitor.ask_streaming("after the refusal").all()
        assert [each["text"] for each in told(visitor)] == ["Hello world."]

    def test_a_fault_at_the_end_changes_nothing(self, site: Served) -> None:
        site.scripts["fail after"] = speak("Fail after.")
        visitor = site.visitor()
        events = visitor.ask_streaming("fail after").all()
        assert (events[-1].event, joined(events)) == ("done", "Fail after.")
        poll(lambda: "hosted:fail_after failed" in site.server.log)


def test_a_hook_that_blocks_is_named_once_and_others_go_on(tmp_path: Path) -> None:
    """Under gevent, in one worker, where it holds up every stream for as long."""
    site = Served(tmp_path, HOST)
    try:
        streams = []
        release = threading.Event()

        def slow(call: Call) -> None:
            call.head()
            call.text("Begun, ")
            release.wait(30)
            call.text("and ended.")
            call.finish()

        site.scripts["slow"] = slow
        streams = [site.visitor().ask_streaming("slow") for _ in range(4)]
        for number in range(2):
            assert joined(site.visitor().ask_streaming(f"block {number}").all()) == "Hello world."
        release.set()
        assert {joined(stream.all()) for stream in streams} == {"Begun, and ended."}
    finally:
        site.close()
    warnings = [line for line in site.server.lines if "held up all streams" in line]
    assert len(warnings) == 1
    assert "hosted:change held up all streams of this worker for 0." in warnings[0]
