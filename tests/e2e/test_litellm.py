"""LiteLLM's proxy between us and its mock models, or a server that is scripted."""

from collections.abc import Iterator

import pytest

from tests.support.client import joined
from tests.support.embedded_app import Served
from tests.support.litellm_proxy import MOCKS, LiteLLMProxy
from tests.support.upstream import Call, FakeUpstream, poll, speak

pytestmark = pytest.mark.timeout(420)

HOST = '''
from flask import Flask
from chatapp import AnswerRequest, ChatApp

app = Flask(__name__)
app.secret_key = "secret"
chat = ChatApp(app)


@chat.before_answer
def choose(request: AnswerRequest) -> None:
    request.model = str(request.messages[-1]["content"]).partition(" ")[0]


@chat.tool
def weather(town: str) -> str:
    """Tell the weather of a town."""
    return f"Sun in {town}."
'''
ROWS = (
    "SELECT outcome FROM chatapp_calls WHERE answer_id = ? AND ended_at IS NOT NULL "
    "ORDER BY started_at"
)


@pytest.fixture(scope="module")
def behind() -> Iterator[FakeUpstream]:
    """The server that the proxy asks for the model `scripted`."""
    fake = FakeUpstream()
    yield fake
    fake.close()


@pytest.fixture(scope="module")
def site(behind: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    proxy = LiteLLMProxy(tmp_path_factory.mktemp("litellm"), behind.url)
    folder = tmp_path_factory.mktemp("host")
    env = {"OPENAI_BASE_URL": proxy.url, "CHATAPP_START_WAIT": "0"}
    served = Served(folder, HOST, **env)
    yield served
    served.close()
    proxy.close()


def test_it_streams(site: Served) -> None:
    events = site.visitor().ask_streaming("mock please").all()
    assert events[-1].event == "done"
    assert joined(events) == MOCKS["mock"]
    assert len([event for event in events if event.event == "message"]) > 1
    assert events[-1].data["usage_source"] == "provider"


@pytest.mark.parametrize(
    ("model", "code", "retryable"),
    [
        ("limited", "upstream_busy", True),
        ("long", "upstream_too_long", False),
        ("broken", "upstream_error", True),
        ("late", "upstream_overloaded", True),
        ("unheard-of", "upstream_model_not_found", False),
    ],
)
def test_it_refuses_as_it_means_it(site: Served, model: str, code: str, retryable: bool) -> None:
    visitor = site.visitor()
    asked = visitor.ask(f"{model} please")
    end = visitor.stream(asked["events"]).all()[-1]
    assert (end.event, end.data["code"]) == ("failed", code)
    assert end.data["retryable"] is retryable
    [(outcome,)] = poll(lambda: site.rows(ROWS, asked["answer"]["id"]))
    assert outcome == "failed"


def test_it_passes_calls_of_tools_on(site: Served, behind: FakeUpstream) -> None:
    def script(call: Call) -> None:
        if call.json["messages"][-1]["role"] == "tool":
            speak("It is", " sunny.")(call)
            return
        call.head()
        for index, part in enumerate(('{"town"', ': "Rome"}')):
            named = {} if index else {"name": "weather"}
            wanted = {"index": 0, "function": {**named, "arguments": part}}
            if named:
                wanted |= {"id": "call_7", "type": "function"}
            call.event({"choices": [{"index": 0, "delta": {"tool_calls": [wanted]}}]})
        call.finish("tool_calls")

    behind.script = script
    visitor = site.visitor()
    asked = visitor.ask("scripted please")
    events = visitor.stream(asked["events"]).all()
    assert events[-1].event == "done"
    assert joined(events).strip() == "It is sunny."
    results = [event.data.get("result") for event in events if event.event == "tool"]
    assert results == [None, "Sun in Rome."]
    asked_for, told = behind.calls[-2:]
    assert asked_for.json["tools"][0]["function"]["name"] == "weather"
    assert told.json["messages"][-1]["content"] == "Sun in Rome."
    found = poll(lambda: len(rows := site.rows(ROWS, asked["answer"]["id"])) == 2 and rows)
    assert found == [("tool_calls",), ("done",)]


def test_it_asks_once_for_what_fails(site: Served, behind: FakeUpstream) -> None:
    """As we tell its users to set it up."""
    behind.script = lambda call: call.refuse(500, "CUDA error")
    before = len(behind.calls)
    visitor = site.visitor()
    reply = visitor.call("POST", "/api/chat", {"message": "scripted please"})
    if reply.status == 202:  # Its refusal came later than a reply waits.
        told = visitor.stream(reply.json["events"]).all()[-1].data
    else:
        told = reply.error
    assert told["code"] == "upstream_error"
    assert len(behind.calls) == before + 1
