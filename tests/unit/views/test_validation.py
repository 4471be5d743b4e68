"""What a client sends is checked field by field, before anything is asked of the upstream."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from chatapp.errors import ChatAppError
from chatapp.settings import Settings
from chatapp.views.validation import ChatRequest, chat_request
from tests.support import flask_client
from tests.support.flask_client import ask, error_of, refused
from tests.support.hypothesis_settings import FEW
from tests.support.upstream import FakeUpstream

make_app, app, client = flask_client.make_app, flask_client.app, flask_client.client

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
    ({"regenerate": "x", "conversation_id": "y"}, "regenerate"),
    ({"regenerate": "x", "edit": "y"}, "regenerate"),
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
