"""What a client sends reaches the model's server only where it is known and allowed."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from chatapp.errors import ChatAppError
from chatapp.settings import Settings
from chatapp.views.histories import checked_history
from tests.support.embedded_app import MakeHost, mounted, refused
from tests.support.hypothesis_settings import FEW
from tests.support.upstream import FakeUpstream

TEXT = st.text(max_size=20).filter(lambda text: text.isprintable())
URLS = (
    "file:///etc/passwd",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fe80::1]/",
    "http://localhost:6379/",
    "https://example.org/a.png",
    "data:image/png;base64,AAAA",
    "gopher://internal:70/",
)
PARTS: tuple[dict[str, Any], ...] = (
    *({"type": "image_url", "image_url": {"url": url}} for url in URLS),
    *({"type": "image_url", "image_url": url} for url in URLS),
    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    {"type": "file", "file": {"file_id": "file-abc"}},
    {"type": "video_url", "video_url": {"url": URLS[0]}},
    {"type": "refusal", "refusal": "no"},
    {"type": "Text", "text": "a"},
)
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def visitor(make_host: MakeHost, upstream: FakeUpstream, **options: Any) -> FlaskClient:
    app = make_host()
    mounted(app, upstream.url, **options)
    return app.test_client()


def before_and_after(make_host: MakeHost, url: str, **options: Any) -> list[FlaskClient]:
    """One visitor of a chat with default options, and of the same chat with these."""
    kept = make_host().instance_path
    clients = []
    for each in ({}, options):
        app = make_host()
        mounted(app, url, instance=kept, **each)
        clients.append(app.test_client())
    clients[0].get("/chat/")
    cookie = clients[0].get_cookie("chatapp_visitor", path="/chat/")
    assert cookie
    clients[1].set_cookie(cookie.key, cookie.value, path=cookie.path)
    return clients


def history(content: Any, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content, **more}]}


def asked(client: FlaskClient, body: dict[str, Any]) -> Any:
    return client.post("/chat/api/chat", json=body)


class TestContent:
    @pytest.mark.parametrize("part", PARTS, ids=repr)
    def test_of_another_kind_than_text_is_refused(
        self, make_host: MakeHost, upstream: FakeUpstream, part: dict[str, Any]
    ) -> None:
        client = visitor(make_host, upstream)
        for content in ([part], [{"type": "text", "text": "Look:"}, part]):
            response = asked(client, history(content))
            assert refused(response) == (400, "unsupported_content")
            assert response.json["error"]["param"] == "messages"
            assert "text" in response.json["error"]["message"]
        assert upstream.calls == []

    def test_of_text_parts_is_one_text(self, make_host: MakeHost, upstream: FakeUpstream) -> None:
        parts = [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]
        assert asked(visitor(make_host, upstream), history(parts)).status_code == 202
        assert upstream.calls[0].json["messages"] == history("One\ntwo")["messages"]

    @pytest.mark.parametrize(
        "content",
        [
            [{"type": "text", "text": "a", "image_url": URLS[0]}],
            [{"type": "text"}],
            [{"type": "text", "text": {"url": URLS[0]}}],
            [{"text": "a"}],
            ["a"],
            {"type": "text", "text": "a"},
            [{"type": "text", "text": "x" * 60}] * 2,
        ],
        ids=repr,
    )
    def test_that_is_no_text_part_is_refused(
        self, make_host: MakeHost, upstream: FakeUpstream, content: Any
    ) -> None:
        client = visitor(make_host, upstream, message_max_chars=100)
        status, code = refused(asked(client, history(content)))
        assert (status, code in ("invalid_request", "unknown_field")) == (400, True)
        assert upstream.calls == []


class TestRoles:
    @pytest.mark.parametrize("role", ["system", "developer"])
    def test_of_the_operator_are_refused_where_he_forbids_them(
        self, make_host: MakeHost, upstream: FakeUpstream, role: str
    ) -> None:
        body = {"messages": [{"role": role, "content": "Obey."}, {"role": "user", "content": "a"}]}
        client = visitor(make_host, upstream, client_system=False)
        assert refused(asked(client, body)) == (403, "not_allowed")
        assert upstream.calls == []
        assert asked(visitor(make_host, upstream), body).status_code == 202
        assert upstream.calls[0].json["messages"] == body["messages"]


@pytest.mark.parametrize(
    "more",
    [
        {"tool_calls": [CALL | {"extra_content": {"url": URLS[0]}}]},
        {"tool_calls": [CALL | {"function": CALL["function"] | {"url": URLS[0]}}]},  # type: ignore[operator]
        {"tool_calls": [CALL | {"function": {"name": "f", "arguments": {"a": 1}}}]},
        {"tool_calls": [CALL | {"type": "mcp"}]},
        {"tool_calls": [CALL | {"id": None}]},
        {"tool_calls": [CALL] * 129},
        {"tool_calls": []},
        {"tool_calls": "f"},
        {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "x" * 101}}]},
        {"tool_call_id": {"url": URLS[0]}},
        {"tool_call_id": "x" * 257},
        {"name": ["a"]},
        {"name": "x" * 257},
        {"cache_control": {"type": "ephemeral"}},
    ],
    ids=lambda more: repr(more)[:60],
)
def test_other_fields_of_a_message_are_refused_where_they_are_not_of_the_known_form(
    make_host: MakeHost, upstream: FakeUpstream, more: dict[str, Any]
) -> None:
    client = visitor(make_host, upstream, message_max_chars=100)
    response = asked(client, history("a", "assistant", **more))
    assert response.status_code == 400
    assert response.json["error"]["param"] == "messages"
    assert upstream.calls == []


def test_an_answer_may_be_handed_back_as_a_client_got_it(
    make_host: MakeHost, upstream: FakeUpstream
) -> None:
    extras = {"refusal": None, "annotations": [], "audio": None, "function_call": None}
    more = {"reasoning_content": "Hm.", "reasoning_details": [{"url": URLS[0]}]}
    body = {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b", **extras, **more},
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": None, "refusal": "No."},
            {"role": "user", "content": "d"},
        ]
    }
    assert asked(visitor(make_host, upstream), body).status_code == 202
    [call] = upstream.calls
    roles = ("user", "assistant", "user", "assistant", "user")
    texts = zip(roles, ("a", "b", "c", "No.", "d"), strict=True)
    assert call.json["messages"] == [{"role": role, "content": text} for role, text in texts]


class TestOptions:
    def test_ask_for_no_more_tokens_than_the_ceiling(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        client = visitor(make_host, upstream)
        response = asked(client, {"message": "a", "max_tokens": 10_000_000})
        assert refused(response) == (400, "invalid_request")
        assert response.json["error"]["param"] == "max_tokens"
        assert refused(asked(client, {"message": "a", "max_tokens": 32_769}))[0] == 400
        settings = {"settings": {"max_tokens": 32_769}}
        assert refused(client.post("/chat/api/conversations", json=settings))[0] == 400
        assert upstream.calls == []
        assert asked(client, {"message": "a", "max_tokens": 32_768}).status_code == 202
        assert upstream.calls[0].json["max_tokens"] == 32_768

    def test_kept_under_a_higher_ceiling_are_lowered(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        before, after = before_and_after(make_host, upstream.url, client_max_tokens=50)
        body = {"settings": {"max_tokens": 9000}}
        made = before.post("/chat/api/conversations", json=body).json["id"]
        assert asked(after, {"message": "a", "conversation_id": made}).status_code == 202
        assert upstream.calls[0].json["max_tokens"] == 50

    @pytest.mark.parametrize(
        "options",
        [
            {"temperature": 1},
            {"top_p": 0.5},
            {"max_tokens": 5},
            {"reasoning_effort": "high"},
            {"system_prompt": "Obey."},
        ],
        ids=lambda options: next(iter(options)),
    )
    def test_may_be_the_operator_s_alone(
        self, make_host: MakeHost, upstream: FakeUpstream, options: dict[str, Any]
    ) -> None:
        before, client = before_and_after(make_host, upstream.url, client_options=False)
        [name] = options
        if name != "system_prompt":
            response = asked(client, {"message": "a"} | options)
            assert refused(response) == (403, "not_allowed")
            assert response.json["error"]["param"] == name
        made = client.post("/chat/api/conversations", json={"settings": options})
        assert refused(made) == (403, "not_allowed")
        made = before.post("/chat/api/conversations", json={"settings": options})
        question = {"message": "a", "conversation_id": made.json["id"]}
        assert asked(client, question).status_code == 202
        [call] = upstream.calls
        assert name not in call.json
        assert [each["role"] for each in call.json["messages"]] == ["user"]

    def test_that_are_not_for_clients_are_not_on_the_page(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        shown = visitor(make_host, upstream).get("/chat/api/page").data
        assert b'name="system_prompt"' in shown
        assert b'max="32768"' in shown
        hidden = visitor(make_host, upstream, client_options=False).get("/chat/api/page").data
        assert b'name="system_prompt"' not in hidden


def test_histories_may_be_forbidden(make_host: MakeHost, upstream: FakeUpstream) -> None:
    client = visitor(make_host, upstream, client_histories=False)
    assert refused(asked(client, history("a"))) == (403, "not_allowed")
    assert upstream.calls == []
    assert asked(client, {"message": "a"}).status_code == 202


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from(URLS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
PART = st.sampled_from([*PARTS, {"type": "text", "text": "a"}]) | st.dictionaries(
    st.sampled_from(["type", "text", "url", "image_url"]), JSON | st.just("text")
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system", "developer", "root"])},
    optional={
        "content": TEXT | JSON | st.lists(PART, max_size=3),
        "name": TEXT | JSON,
        "tool_calls": st.lists(st.just(CALL) | JSON, max_size=3) | JSON,
        "tool_call_id": TEXT | JSON,
        "extra": JSON,
    },
)


@FEW
@given(st.lists(MESSAGE, min_size=1, max_size=3))
def test_whatever_a_history_holds_only_texts_of_known_fields_are_left(
    messages: list[dict[str, Any]],
) -> None:
    fault, checked = None, []
    try:
        checked = checked_history(messages, Settings(client_system=False))
    except ChatAppError as error:
        fault = (error.param, error.status in (400, 403))
    assert fault in (None, ("messages", True))
    for message in checked:
        calls = message.pop("tool_calls", [])
        assert set(message) <= {"role", "content", "name", "tool_call_id"}
        assert message["role"] in ("user", "assistant", "tool")
        content = message.pop("content")
        assert isinstance(content, str) or (content is None and calls)
        assert all(isinstance(value, str) for value in message.values())
        for call in calls:
            assert set(call) == {"id", "type", "function"}
            assert set(call["function"]) == {"name", "arguments"}
            assert all(isinstance(value, str) for value in call["function"].values())
