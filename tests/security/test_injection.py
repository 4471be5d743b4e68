"""No text becomes a header or an event, and nothing of the inside becomes a text."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from chatapp import AnswerInfo, AnswerRequest, ChatApp, Refused, StopAnswer
from tests.support.client import joined, parse_all
from tests.support.embedded_app import MakeHost, mounted
from tests.support.upstream import Call, FakeUpstream, Script

STREAM = re.compile(rb"retry: \d+\n(?:(?:event: [a-z]+\n)?data: \{[^\r\n]*\}\nid: \d+\n\n)*")
PAYLOADS = [
    "a\r\nX-Evil: 1\r\n\r\nbody",
    "a\n\ndata: evil\n\n",
    "a\nevent: done\ndata: {}\n\nid: 99\n\n",
    "a\rdata: evil\r\r",
    "\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e",
    "a\0b\x7f\x1b[2J\ufeff",
    "retry: 1\n\n: comment\n\n",
    '"}\n\ndata: {"text":"evil',
    "</script><script>evil()</script><!--",
    "{{ 7 * 7 }}{% include 'x' %}${7*7}",
]
HEADERS = {
    "access-control-allow-credentials", "access-control-allow-origin", "allow",
    "access-control-expose-headers", "cache-control", "content-length", "content-security-policy",
    "content-type", "cross-origin-opener-policy", "cross-origin-resource-policy",
    "permissions-policy", "referrer-policy", "retry-after", "set-cookie", "vary",
    "x-accel-buffering", "x-answer-id", "x-content-type-options", "location",
}  # fmt: skip
INSIDE = ("sk-secret", "/srv/inside", "raw upstream words", "Traceback", "127.0.0.1", "hunter2")
"""What nobody outside may read."""


@pytest.fixture
def app(make_host: MakeHost) -> Flask:
    return make_host()


@pytest.fixture
def chat(app: Flask, upstream: FakeUpstream) -> ChatApp:
    upstream.script = echo
    return mounted(app, upstream.url, client_system=True)


@pytest.fixture
def client(app: Flask, chat: ChatApp) -> FlaskClient:  # noqa: ARG001 - it is in the application
    return app.test_client()


def echo(call: Call) -> None:
    """Say the question, and think it, too."""
    call.head()
    call.text(call.prompt, "reasoning_content")
    call.text(call.prompt)
    call.finish()


def checked(response: TestResponse) -> TestResponse:
    """A response whose headers and events are of our own kinds only."""
    names = {name.lower() for name, _ in response.headers}
    assert names <= HEADERS, names - HEADERS
    for _, value in response.headers:
        assert value.isprintable()
        assert value.isascii()
    if response.content_type.startswith("text/event-stream"):
        assert STREAM.fullmatch(response.data), response.data
    elif response.data:
        json.loads(response.data)
    return response


@pytest.mark.parametrize("payload", PAYLOADS)
class TestTexts:
    def test_of_questions_and_answers_come_through_unchanged(
        self, client: FlaskClient, upstream: FakeUpstream, payload: str
    ) -> None:
        text = f"words {payload}"
        for body in (
            {"message": text},
            {"messages": [{"role": "user", "content": text, "name": text}]},
            {"messages": [{"role": "system", "content": text}, {"role": "user", "content": text}]},
        ):
            headers = {"Accept": "text/event-stream"}
            events = parse_all(
                checked(client.post("/chat/api/chat", json=body, headers=headers)).data
            )
            assert {event.event for event in events} == {"start", "reasoning", "message", "done"}
            assert [int(event.id) for event in events] == list(range(1, len(events) + 1))
            answer = f"/chat/api/answers/{events[0].data['answer_id']}"
            assert checked(client.get(answer)).json["text"] == joined(events)
            for granularity in ("word", "sentence", "full"):
                again = checked(client.get(f"{answer}/events?granularity={granularity}"))
                assert joined(parse_all(again.data)) == text.replace("\0", "\ufffd")
            assert upstream.calls[-1].json["messages"][-1]["content"] == text

    def test_of_conversations_come_through_or_are_refused(
        self, client: FlaskClient, upstream: FakeUpstream, payload: str
    ) -> None:
        title, prompt = f"title {payload}"[:200], f"prompt {payload}"
        body = {"title": title, "settings": {"system_prompt": prompt}}
        made = checked(client.post("/chat/api/conversations", json=body))
        assert made.status_code == 201
        path = f"/chat/api/conversations/{made.json['id']}"
        listed = checked(client.get("/chat/api/conversations")).json["conversations"]
        read = checked(client.get(path)).json
        assert listed[0]["title"] == read["title"]
        assert read["settings"] == made.json["settings"]
        ask = {"message": "a", "conversation_id": made.json["id"]}
        checked(client.post("/chat/api/chat", json=ask, headers={"Accept": "text/event-stream"}))
        sent = upstream.calls[-1].json["messages"]
        assert [each["role"] for each in sent] == ["system", "user"]
        for name in ("model", "reasoning_effort", "temperature"):
            response = checked(client.patch(path, json={"settings": {name: payload}}))
            assert response.status_code in (200, 400)
            checked(client.patch(path, json={"settings": {name: None}}))
        renamed = checked(client.patch(path, json={"title": payload + "."}))
        assert renamed.status_code == 200
        assert pushed(client)

    def test_in_fields_of_few_values_are_refused(self, client: FlaskClient, payload: str) -> None:
        for name in ("model", "conversation_id", "regenerate", "edit", "reasoning_effort", payload):
            response = checked(client.post("/chat/api/chat", json={"message": "a", name: payload}))
            assert response.status_code in (400, 404), name
        query = {"granularity": payload, "last_event_id": payload, "ticket": payload}
        for name, value in query.items():
            response = client.get("/chat/api/answers/x/events", query_string={name: value})
            assert checked(response).status_code == (400 if name == "granularity" else 404)
        response = client.post("/chat/api/chat", json={"message": "a"}, query_string=query)
        assert checked(response).status_code == 400
        for name in ("q", "cursor", "limit"):
            response = client.get("/chat/api/conversations", query_string={name: payload})
            assert checked(response).status_code in (200, 400)

    def test_that_a_hook_says_come_through(
        self, chat: ChatApp, client: FlaskClient, payload: str
    ) -> None:
        @chat.before_answer
        def refuse(request: AnswerRequest) -> None:
            if request.messages[-1]["content"] == "refuse":
                raise Refused(payload, param=payload)

        @chat.on_piece
        def stop(_info: AnswerInfo, _piece: str) -> None:
            raise StopAnswer(payload)

        response = checked(client.post("/chat/api/chat", json={"message": "refuse"}))
        assert response.json["error"]["message"] == payload
        headers = {"Accept": "text/event-stream"}
        response = client.post("/chat/api/chat", json={"message": "a"}, headers=headers)
        end = parse_all(checked(response).data)[-1]
        assert (end.event, end.data["message"]) == ("failed", payload)

    def test_that_a_log_in_gives_as_an_id_stay_inside(
        self, chat: ChatApp, client: FlaskClient, payload: str
    ) -> None:
        chat.owner(lambda: payload)
        headers = {"Origin": "http://localhost", "Accept": "text/event-stream"}
        status = 500 if "\0" in payload else 200
        for response in (
            client.post("/chat/api/chat", json={"message": "a"}, headers=headers),
            client.get("/chat/api/conversations"),
        ):
            assert checked(response).status_code == status
            assert json.dumps(payload).encode() not in response.data
        assert client.get("/chat/api/page").status_code == status

    def test_that_the_upstream_sends_stay_texts(
        self, client: FlaskClient, upstream: FakeUpstream, payload: str
    ) -> None:
        def script(call: Call) -> None:
            call.head()
            call.event({"id": payload, "model": payload, "choices": []})
            call.text(payload)
            delta = {"content": "", "role": payload}
            call.event({"choices": [{"index": 0, "delta": delta, "finish_reason": payload}]})
            call.finish()

        upstream.script = script
        headers = {"Accept": "text/event-stream"}
        events = parse_all(
            checked(client.post("/chat/api/chat", json={"message": "a"}, headers=headers)).data
        )
        assert joined(events) == payload.replace("\0", "\ufffd")
        assert events[-1].is_end
        if events[-1].event == "done":
            assert events[-1].data["finish_reason"] in ("stop", "length", "content_filter")

    def test_of_tools_stay_texts(
        self, chat: ChatApp, client: FlaskClient, upstream: FakeUpstream, payload: str
    ) -> None:
        @chat.tool
        def repeat(text: str) -> str:
            """Repeat."""
            return text

        upstream.script = calling(("repeat", {"text": payload}), (payload, {}))
        headers = {"Accept": "text/event-stream"}
        events = parse_all(
            checked(client.post("/chat/api/chat", json={"message": "a"}, headers=headers)).data
        )
        told = [event.data for event in events if event.event == "tool"]
        assert {"result": payload}.items() <= told[2].items() | told[3].items()
        assert events[-1].event == "done"


def calling(*calls: tuple[str, dict[str, Any]]) -> Script:
    """A script that calls these tools, with ids that are as odd, and then ends."""

    def script(call: Call) -> None:
        call.head()
        if call.json["messages"][-1]["role"] == "tool":
            call.finish()
            return
        wanted = [
            {
                "index": index,
                "id": f"{name}\n{index}",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for index, (name, arguments) in enumerate(calls)
        ]
        call.event({"choices": [{"index": 0, "delta": {"tool_calls": wanted}}]})
        call.finish("tool_calls")

    return script


def pushed(client: FlaskClient) -> bytes:
    """What the push channel has kept for this visitor."""
    response = client.get("/chat/api/events", headers={"Last-Event-ID": "0"}, buffered=False)
    raw = b""
    for chunk in response.response:
        raw += chunk if isinstance(chunk, bytes) else chunk.encode()
        if raw.count(b"event: ") >= 3:
            break
    response.close()
    assert STREAM.fullmatch(raw), raw
    return raw


@pytest.mark.parametrize("key", ["a b", "a\tb", "é", "\x7f", "x" * 201, "", "a\u2028b"])
def test_a_key_that_is_none_is_refused(client: FlaskClient, key: str) -> None:
    headers = {"Idempotency-Key": key.encode().decode("latin-1")}
    response = client.post("/chat/api/chat", json={"message": "a"}, headers=headers)
    assert checked(response).status_code == 400


@pytest.mark.parametrize("cursor", ["x", "-1", "1e9", "９", "9" * 5000, "1; DROP TABLE", "\xa0"])
def test_a_cursor_that_is_none_is_harmless(client: FlaskClient, cursor: str) -> None:
    response = client.post("/chat/api/chat", json={"message": "a"})
    url = response.json["events"]
    header = cursor.encode().decode("latin-1")
    asking: list[dict[str, Any]] = [
        {"headers": {"Last-Event-ID": header}},
        {"query_string": {"last_event_id": cursor}},
    ]
    for given in asking:
        again = checked(client.get(url, **given))
        assert again.status_code == 200
        assert parse_all(again.data)[-1].event == "done"


class TestInside:
    """Whatever goes wrong, a visitor reads a sentence of ours and its code."""

    @pytest.fixture(autouse=True)
    def quiet(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.CRITICAL)

    @staticmethod
    def read(client: FlaskClient, *, late: bool = False) -> bytes:
        """Everything that a visitor gets to see of one question."""
        bodies = []
        for accept in ("text/event-stream", "application/json"):
            headers = {"Accept": accept, "Origin": "http://localhost"}
            response = client.post("/chat/api/chat", json={"message": "a"}, headers=headers)
            checked(response)
            bodies.append(response.data)
            if response.status_code == 202:
                bodies += [client.get(response.json[name]).data for name in ("events",)]
                snapshot = f"/chat/api/answers/{response.json['answer']['id']}"
                bodies.append(client.get(snapshot).data)
        bodies += [client.get(f"/chat/{path}").data for path in ("", "api/page", "api/models")]
        listed = client.get("/chat/api/conversations")
        bodies.append(listed.data)
        for each in (listed.json or {}).get("conversations", ()):
            bodies.append(client.get(f"/chat/api/conversations/{each['id']}").data)
        bodies += [client.get(path).data for path in ("/chat/readyz", "/chat/metrics")]
        whole = b"\n".join(bodies)
        for word in INSIDE:
            assert word.encode() not in whole, whole
        assert late or b"error" in whole
        return whole

    @pytest.mark.parametrize("start_wait", [5, 0], ids=["as-error", "as-event"])
    @pytest.mark.parametrize(
        "status", [400, 401, 402, 403, 404, 408, 413, 418, 422, 429, 500, 502, 503, 529, 302, 204]
    )
    def test_of_an_upstream_s_refusal(
        self, app: Flask, upstream: FakeUpstream, status: int, start_wait: int
    ) -> None:
        upstream.script = lambda call: call.refuse(
            status, "raw upstream words: sk-secret at /srv/inside", Location="/srv/inside"
        )
        mounted(app, upstream.url, start_wait=start_wait)
        self.read(app.test_client())

    @pytest.mark.parametrize("start_wait", [5, 0], ids=["as-error", "as-event"])
    @pytest.mark.parametrize(
        "script",
        [
            lambda call: (
                call.head(Content_Type="text/html"),
                call.send(b"/srv/inside"),
                call.cut(),
            ),
            lambda call: (call.raw(b"raw upstream words: sk-secret\r\n\r\n"), call.cut()),
            lambda call: call.reset(),
            lambda call: (call.head(), call.send(b"data: raw upstream words {\n\n"), call.cut()),
            lambda call: (call.head(), call.text("a"), call.cut()),
            lambda call: (
                call.head(),
                call.event({"error": {"message": "raw upstream words sk-secret", "code": "x"}}),
                call.cut(),
            ),
        ],
        ids=["html", "no-http", "reset", "no-json", "cut", "error-in-stream"],
    )
    def test_of_an_upstream_that_is_broken(
        self, app: Flask, upstream: FakeUpstream, script: Script, start_wait: int
    ) -> None:
        upstream.script = script
        mounted(app, upstream.url, start_wait=start_wait)
        self.read(app.test_client())

    def test_of_an_upstream_that_is_not_there(self, app: Flask) -> None:
        mounted(app, "http://127.0.0.1:9/srv/inside/v1")
        self.read(app.test_client())

    @pytest.mark.parametrize("place", ["before_answer", "on_piece", "after_answer", "owner"])
    def test_of_a_function_of_the_application_s(
        self, app: Flask, chat: ChatApp, place: str
    ) -> None:
        register: Callable[[Any], Any] = getattr(chat, place)

        @register
        def fail(*_args: object) -> None:
            raise RuntimeError("sk-secret: can't open /srv/inside for hunter2")

        self.read(app.test_client(), late=place == "after_answer")

    def test_of_a_tool(self, app: Flask, chat: ChatApp, upstream: FakeUpstream) -> None:
        @chat.tool
        def fail() -> None:
            """Fail."""
            raise RuntimeError("sk-secret: can't open /srv/inside for hunter2")

        upstream.script = calling(("fail", {}))
        whole = self.read(app.test_client(), late=True)
        assert b"The tool failed." in whole
        told = upstream.calls[-1].json["messages"][-1]["content"]
        assert not any(word in told for word in INSIDE)

    @pytest.mark.parametrize("option", ["database_url", "eventlog_url"])
    def test_of_a_database_that_is_not_there(
        self, app: Flask, upstream: FakeUpstream, option: str
    ) -> None:
        pytest.importorskip("psycopg")
        url = "postgresql://me:hunter2@127.0.0.1:9/srv-inside"
        mounted(app, upstream.url, **{option: url})
        self.read(app.test_client())

    def test_of_a_folder_that_can_not_be_written(
        self, app: Flask, upstream: FakeUpstream, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("no folder")
        app.secret_key = None
        mounted(app, upstream.url, instance=str(tmp_path / "file/srv/inside"))
        whole = self.read(app.test_client())
        assert str(tmp_path).encode() not in whole
