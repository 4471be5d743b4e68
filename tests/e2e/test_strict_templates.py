"""llama.cpp's server with templates that alternate roles strictly, as Mistral's and Gemma's do."""

import contextlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from chatapp.upstream import local_model
from tests.support.client import Client, joined
from tests.support.gunicorn import Gunicorn
from tests.support.llama_server import API_KEY, LlamaServer

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        "CI" not in os.environ and not local_model.available(), reason=str(local_model.missing())
    ),
]


def post(server: LlamaServer, messages: list[dict[str, str]], **options: Any) -> Any:
    """A request without our care for the history."""
    body = {"model": server.model, "messages": messages, **options}
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
    address = f"{server.url}/chat/completions"
    asked = urllib.request.Request(address, json.dumps(body).encode(), headers)
    return urllib.request.urlopen(asked, timeout=120)


@pytest.fixture(scope="module", params=["like_mistral.jinja", "like_gemma.jinja"])
def server(request: pytest.FixtureRequest) -> Iterator[LlamaServer]:
    server = LlamaServer(request.param)
    yield server
    server.close()


@pytest.fixture(scope="module")
def visitor(server: LlamaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    application = Gunicorn(
        server.url,
        tmp_path_factory.mktemp("instance"),
        CHATAPP_MODEL=server.model,
        CHATAPP_START_WAIT="0",
        CHATAPP_SYSTEM_PROMPT="You are brief.",
    )
    visitor = Client(application.url, timeout=120)
    visitor.get("/")
    yield visitor
    application.stop()


@pytest.mark.parametrize(
    "roles", [["user", "user"], ["assistant", "user"], ["system", "system", "user"]]
)
def test_the_template_is_strict(server: LlamaServer, roles: list[str]) -> None:
    """Else the other tests would show nothing."""
    messages = [{"role": role, "content": "Hi"} for role in roles]
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(server, messages)
    with refused.value as reply:
        assert b"raise_exception" in reply.read()


def test_it_answers_after_an_answer_that_was_stopped_before_its_first_word(
    server: LlamaServer, visitor: Client
) -> None:
    with contextlib.ExitStack() as busy:
        for _ in range(local_model.SLOTS):
            long = {"max_tokens": 1000, "ignore_eos": True, "stream": True}
            busy.enter_context(post(server, [{"role": "user", "content": "Count."}], **long))
        asked = visitor.ask("What is the capital of France?")
        stopped = visitor.call("POST", asked["stop"])
        assert stopped.json["answer"]["status"] == "stopped"
    assert visitor.get(f"/api/answers/{asked['answer']['id']}").json["text"] == ""
    conversation = asked["answer"]["conversation_id"]
    path = f"/api/conversations/{conversation}"
    visitor.call("PATCH", path, {"settings": {"system_prompt": "Be kind."}})
    for question in ("And of Italy?", "Thank you."):
        stream = visitor.ask_streaming(question, conversation_id=conversation, max_tokens=8)
        events = stream.all()
        assert events[-1].event == "done", events[-1].data
        assert joined(events).strip()


def test_it_answers_a_history_that_begins_with_an_answer_and_has_gaps(visitor: Client) -> None:
    messages = [
        {"role": "assistant", "content": "How can I help?"},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": ""},
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "How are you?"},
    ]
    body = {"messages": messages, "max_tokens": 8}
    asked = visitor.call("POST", "/api/chat", body).json
    events = visitor.stream(asked["events"]).all()
    assert events[-1].event == "done", events[-1].data
