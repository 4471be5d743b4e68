"""What a client gets in reply: events, a reference to them, a conversation, or an error of ours."""

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from chatapp.errors import ChatAppError
from chatapp.upstream.sse_decoder import Decoder
from tests.support import flask_client
from tests.support.flask_client import MakeApp, ask, error_of, refused
from tests.support.upstream import Call, FakeUpstream, poll, speak

make_app, app, client = flask_client.make_app, flask_client.app, flask_client.client


class TestReplies:
    def test_an_event_stream_for_who_asks_for_one(self, client: FlaskClient) -> None:
        headers = {"Accept": "text/event-stream"}
        response = client.post("/api/chat", json={"message": "Hi"}, headers=headers)
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert response.headers["Cache-Control"] == "private, no-store, no-transform"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert "Content-Length" not in response.headers
        assert response.data.startswith(b"retry: 1000\n")
        messages = Decoder().feed(response.data)
        assert [m.id for m in messages] == [str(n + 1) for n in range(len(messages))]
        start = json.loads(messages[0].data)
        assert set(start) == {"answer_id", "conversation_id", "model", "created_at"}
        assert start["answer_id"] == response.headers["X-Answer-Id"]
        text = "".join(json.loads(m.data)["text"] for m in messages if m.event == "message")
        assert text == "Hello world."
        end = json.loads(messages[-1].data)
        assert (messages[-1].event, end["finish_reason"]) == ("done", "stop")
        assert end["usage_source"] == "provider"

    @pytest.mark.parametrize("accept", [None, "*/*", "application/json", "text/html"])
    def test_a_reference_for_everybody_else(self, client: FlaskClient, accept: str | None) -> None:
        headers = {"Accept": accept} if accept else {}
        response = client.post("/api/chat", json={"message": "Hi"}, headers=headers)
        assert response.status_code == 202
        assert set(response.json) == {"answer", "events", "stop"}
        assert set(response.json["answer"]) == {"id", "conversation_id", "status"}

    def test_a_history_belongs_to_no_conversation(
        self, make_app: MakeApp, upstream: FakeUpstream
    ) -> None:
        client = make_app(client_system=True, start_wait=10).test_client()
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Part"}]},
        ]
        response = client.post("/api/chat", json={"messages": messages})
        assert response.json["answer"]["conversation_id"] is None
        assert client.get(response.json["events"]).status_code == 200
        messages[1]["content"] = "Part"
        assert upstream.calls[0].json["messages"] == messages
        assert client.get("/api/conversations").json["conversations"] == []

    def test_the_end_of_the_log_is_204_and_any_cursor_in_it_gives_the_rest(
        self, client: FlaskClient
    ) -> None:
        url = f"/api/answers/{ask(client)['id']}/events"
        ids = [m.id for m in Decoder().feed(client.get(url).data)]
        for number in ids[:-1]:
            rest = client.get(url, headers={"Last-Event-ID": number})
            assert [m.id for m in Decoder().feed(rest.data)] == ids[int(number) :]
            assert client.get(f"{url}?last_event_id={number}").data == rest.data
        for number in (ids[-1], "999"):
            assert client.get(url, headers={"Last-Event-ID": number}).status_code == 204
        unknown = Decoder().feed(client.get(url, headers={"Last-Event-ID": "x-7"}).data)
        assert [m.event for m in unknown] == ["snapshot", "done"]

    def test_head_of_a_stream_has_its_headers_and_leaves_no_reader(
        self, app: Flask, client: FlaskClient
    ) -> None:
        answer = ask(client)["id"]
        response = client.head(f"/api/answers/{answer}/events")
        assert (response.status_code, response.data) == (200, b"")
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert app.extensions["chatapp"].service.answers.find(answer).readers == set()
        assert client.head("/api/events").status_code == 200
        assert app.extensions["chatapp"].service.pubsub.readers == set()
        assert client.head("/").status_code == 200
        assert client.head("/api/chat").status_code == 405

    @pytest.mark.parametrize(
        ("accept", "streams"),
        [
            ("text/event-stream;charset=utf-8", True),
            ("application/json, text/event-stream", True),
            ("text/event-stream, */*;q=0.1", True),
            ("text/*", True),
            ("application/json, text/event-stream;q=0.5", False),
            ("text/event-stream;q=0, */*", False),
            ("*/*", False),
        ],
    )
    def test_a_stream_is_for_who_names_it(
        self, client: FlaskClient, accept: str, streams: bool
    ) -> None:
        reply = client.post("/api/chat", json={"message": "Hi"}, headers={"Accept": accept})
        assert reply.status_code == (200 if streams else 202)
        assert reply.data

    def test_text_that_a_database_can_not_keep_is_replaced_for_all_alike(
        self, client: FlaskClient, upstream: FakeUpstream
    ) -> None:
        upstream.script = speak("a\0b")
        answer = ask(client)
        assert client.get(f"/api/answers/{answer['id']}").json["text"] == "a\ufffdb"
        kept = client.get(f"/api/conversations/{answer['conversation_id']}").json["messages"]
        assert kept[-1]["content"] == "a\ufffdb"

    def test_an_answer_whose_log_is_gone_is_still_known(
        self, app: Flask, client: FlaskClient
    ) -> None:
        answer = ask(client)["id"]
        before = client.get(f"/api/answers/{answer}").json
        service = app.extensions["chatapp"].service
        poll(lambda: not service.answers.running and not service.replicator.behind)
        service.answers.discard(service.answers.find(answer), ChatAppError("Forgotten."))
        service.event_log.discard([answer])
        assert client.get(f"/api/answers/{answer}").json == before
        response = client.get(f"/api/answers/{answer}/events")
        assert "Content-Length" not in response.headers
        messages = Decoder().feed(response.data)
        assert [m.event for m in messages] == ["start", "snapshot", "done"]
        start = json.loads(messages[0].data)
        assert (start["answer_id"], start["model"]) == (answer, "fake-model")
        assert start["conversation_id"] == before["conversation_id"]
        headers = {"Last-Event-ID": "1"}
        rest = client.get(f"/api/answers/{answer}/events", headers=headers)
        assert Decoder().feed(rest.data) == messages[1:]
        headers = {"Last-Event-ID": messages[-1].id}
        assert client.get(f"/api/answers/{answer}/events", headers=headers).status_code == 204
        assert client.post(f"/api/answers/{answer}/stop").status_code == 202


class TestRefusedByTheUpstream:
    """A question that the upstream refuses in time leaves nothing behind."""

    def test_a_first_question_leaves_no_conversation_and_its_key_is_free(
        self, client: FlaskClient, upstream: FakeUpstream
    ) -> None:
        upstream.script = lambda call: call.refuse(429, Retry_After="7")
        headers = {"Idempotency-Key": "k"}
        response = client.post("/api/chat", json={"message": "a"}, headers=headers)
        refused(response, 429, "upstream_busy", None)
        assert response.headers["Retry-After"] == "7"
        assert client.get("/api/conversations").json["conversations"] == []
        upstream.script = speak("Now.")
        again = client.post("/api/chat", json={"message": "a"}, headers=headers)
        assert again.status_code == 202

    def test_a_conversation_stays_as_it_was_and_can_go_on(
        self, client: FlaskClient, upstream: FakeUpstream
    ) -> None:
        first = ask(client, "one")
        url = f"/api/conversations/{first['conversation_id']}"
        before = client.get(url).json["messages"]
        upstream.script = lambda call: call.refuse(500)
        for body in (
            {"message": "two", "conversation_id": first["conversation_id"]},
            {"regenerate": first["id"]},
            {
                "message": "uno",
                "conversation_id": first["conversation_id"],
                "edit": before[0]["id"],
            },
        ):
            refused(client.post("/api/chat", json=body), 502, "upstream_error", None)
            assert client.get(url).json["messages"] == before
        upstream.script = speak("Again.")
        ask(client, "two", conversation_id=first["conversation_id"])
        assert len(client.get(url).json["messages"]) == 4

    def test_what_fails_after_the_wait_is_an_event(
        self, make_app: MakeApp, upstream: FakeUpstream
    ) -> None:
        client = make_app(start_wait=0).test_client()

        def refuse_late(call: Call) -> None:
            poll(lambda: replied)
            call.refuse(401)

        replied: list[int] = []
        upstream.script = refuse_late
        response = client.post("/api/chat", json={"message": "a"})
        replied.append(response.status_code)
        assert replied == [202]
        end = Decoder().feed(client.get(response.json["events"]).data)[-1]
        assert (end.event, json.loads(end.data)["code"]) == ("failed", "upstream_auth")


class TestConversations:
    def test_titles_are_checked(self, client: FlaskClient) -> None:
        made = client.post("/api/conversations", json={"title": "Mine"})
        assert (made.status_code, made.json["title"]) == (201, "Mine")
        url = f"/api/conversations/{made.json['id']}"
        for title in ("", " ", 5, "x" * 81, "\ud800", None):
            refused(client.patch(url, json={"title": title}), 400, "invalid_request", "title")
        refused(client.patch(url, json={"name": "x"}), 400, "unknown_field", "name")
        refused(client.patch(url), 400, "invalid_request", "title")
        assert client.patch(url, json={"title": "x" * 80}).json["title"] == "x" * 80
        assert client.post("/api/conversations").json["title"] is None

    @pytest.mark.parametrize(
        "query",
        [
            *(
                f"limit={bad}"
                for bad in ("0", "201", "x", "", "-1", "٣", "0" * 9 + "1", "9" * 5000)
            ),
            *(f"cursor={bad}" for bad in ("x", "", "-1", "9" * 19)),
        ],
        ids=lambda query: query[:20],
    )
    def test_pages_are_bounded(self, client: FlaskClient, query: str) -> None:
        param = query.partition("=")[0]
        refused(client.get(f"/api/conversations?{query}"), 400, "invalid_request", param)

    def test_a_deleted_conversation_is_gone_and_its_answer_stopped(
        self, app: Flask, client: FlaskClient, upstream: FakeUpstream
    ) -> None:
        """For all workers at once, which read what is in the event log."""
        upstream.script = lambda call: (call.head(), call.text("a"), call.wait_closed())
        answer = client.post("/api/chat", json={"message": "long"}).json["answer"]
        url = f"/api/conversations/{answer['conversation_id']}"
        busy = {"message": "more", "conversation_id": answer["conversation_id"]}
        refused(client.post("/api/chat", json=busy), 409, "conflict", None)
        assert client.delete(url).status_code == 204
        assert app.extensions["chatapp"].service.event_log.find(answer["id"]) is None
        assert poll(upstream.calls[0].closed.is_set)
        assert error_of(client.get(url), 404)


def test_unknown_addresses_and_methods_have_the_error_body_too(client: FlaskClient) -> None:
    refused(client.get("/api/nothing"), 404, "not_found", None)
    refused(client.get("/api/chat"), 405, "method_not_allowed", None)


def test_a_fault_of_ours_shows_neither_its_text_nor_a_path(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    store = app.extensions["chatapp"].store

    def fail(*_: object) -> None:
        raise OSError("/secret/path")

    monkeypatch.setattr(store, "page", fail)
    response = client.get("/api/conversations")
    assert error_of(response, 500)["code"] == "internal"
    assert b"secret" not in response.data
    assert "/secret/path" in caplog.text


def test_a_secret_that_can_not_be_kept_is_told_to_the_operator_and_not_to_the_visitor(
    make_app: MakeApp, tmp_path: Path, caplog: Any
) -> None:
    (tmp_path / "file").write_text("")
    client = make_app(instance=tmp_path / "file").test_client()
    response = client.get("/api/conversations")
    assert error_of(response, 503)["code"] == "misconfigured"
    assert str(tmp_path).encode() not in response.data
    assert "CHATAPP_SECRET" in caplog.text
