"""Tools of a real server: one answer of several requests, followed, resumed and stopped as any."""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from tests.support.client import Client, Sent, joined
from tests.support.embedded_app import Served
from tests.support.upstream import USAGE, Call, Script, poll

HOST = '''
import threading

from flask import Flask, current_app

from chatapp import ChatApp, ToolContext, ToolError

app = Flask(__name__)
app.secret_key = "the same everywhere"
app.config["WHAT"] = "tea"
chat = ChatApp(app)
both = threading.Barrier(2)


@chat.tool
def left(context: ToolContext) -> str:
    """Wait until the other has come."""
    both.wait(10)
    return f"left for {context.owner}"


@chat.tool
def right(number: int) -> dict[str, object]:
    """Wait until the other has come."""
    both.wait(10)
    return {"number": number, "what": current_app.config["WHAT"]}


@chat.tool(timeout=30)
def hang() -> None:
    """Never return."""
    threading.Event().wait()


@chat.tool(timeout=0.3)
def slow() -> None:
    """Take too long."""
    threading.Event().wait()


@chat.tool(max_bytes=10)
def large() -> str:
    """Return too much."""
    return "x" * 11


@chat.tool
def sorry() -> None:
    """Tell what is wrong."""
    raise ToolError("There is none.")
'''


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Four workers of an application with tools."""
    served = Served(tmp_path_factory.mktemp("host"), HOST, "-w", "4")
    yield served
    served.close()


def calling(*rounds: dict[str, Any], before: str = "", last: str = "The end.") -> Script:
    """A script that calls the tools of one round after the other, and then answers."""

    def script(call: Call) -> None:
        done = [each for each in call.json["messages"] if each.get("tool_calls")]
        call.head()
        if len(done) == len(rounds):
            for word in last.split(" "):
                call.text(f"{word} ")
            call.finish()
            return
        if before:
            call.text(before)
        for index, (name, arguments) in enumerate(rounds[len(done)].items()):
            function = {"name": name, "arguments": json.dumps(arguments)}
            wanted = {"index": index, "id": f"{len(done)}_{name}", "function": function}
            call.event({"choices": [{"index": 0, "delta": {"tool_calls": [wanted]}}]})
        call.finish("tool_calls")

    return script


TWO = {"left": {}, "right": {"number": 7}}


def tools(events: list[Sent]) -> list[dict[str, Any]]:
    return [event.data for event in events if event.event == "tool"]


def ask(site: Served, question: str, script: Script) -> tuple[Client, list[Sent]]:
    site.scripts[question] = script
    visitor = site.visitor()
    return visitor, visitor.ask_streaming(question).all()


def test_two_that_are_called_at_once_run_beside_each_other(site: Served) -> None:
    """Each waits for the other; the model gets both results, and their reader all of it."""
    _, events = ask(site, "both", calling(TWO, before="Let me see."))
    begun, returned = tools(events)[:2], tools(events)[2:]
    assert [(each["name"], each["arguments"]) for each in begun] == [
        ("left", {}),
        ("right", {"number": 7}),
    ]
    results = {each["name"]: each["result"] for each in returned}
    assert results["left"].startswith("left for visitor:")
    assert results["right"] == {"number": 7, "what": "tea"}
    assert {each["id"] for each in begun} == {each["id"] for each in returned}
    assert joined(events).split() == ["Let", "me", "see.", "The", "end."]
    assert events[-1].data["usage"] == {name: 2 * count for name, count in USAGE.items()}
    assert events[-1].data["finish_reason"] == "stop"
    first, second = site.calls("both")
    assert {each["function"]["name"] for each in first.json["tools"]} >= set(TWO)
    asked, *answered = second.json["messages"][1:]
    assert [each["id"] for each in asked["tool_calls"]] == ["0_left", "0_right"]
    assert [each["tool_call_id"] for each in answered] == ["0_left", "0_right"]
    assert json.loads(answered[1]["content"]) == results["right"]


def test_events_are_numbered_without_a_gap(site: Served) -> None:
    visitor, events = ask(site, "numbers", calling(TWO, {"sorry": {}}, TWO, before="Well."))
    numbers = [int(event.id) for event in events]
    assert numbers[0] == 1
    assert all(after > before for before, after in pairwise(numbers))
    answer = events[0].data["answer_id"]
    site.wait_until_written(answer)
    snapshot = visitor.get(f"/api/answers/{answer}").json
    assert snapshot["last_event"] == numbers[-1]


def test_a_reader_may_come_back_after_any_event_on_any_worker(site: Served) -> None:
    visitor, events = ask(site, "resume", calling(TWO, {"sorry": {}}, before="Let me see."))
    path = f"/api/answers/{events[0].data['answer_id']}/events"
    site.wait_until_written(events[0].data["answer_id"])
    for event in events[:-1]:
        for _ in range(3):
            rest = visitor.stream(path, Last_Event_ID=event.id).all()
            seen = [each for each in events if int(each.id) <= int(event.id)]
            assert tools(seen) + tools(rest) == tools(events)
            assert joined(seen) + joined(rest) == joined(events)
            assert rest[-1] == events[-1]


def test_a_reader_of_another_worker_follows_while_a_tool_runs(site: Served) -> None:
    site.scripts["mirror"] = calling({"hang": {}}, before="Let me see.")
    visitor = site.visitor()
    answer = visitor.ask("mirror")
    streams = [visitor.stream(answer["events"]) for _ in range(8)]
    followed = [iter(stream) for stream in streams]
    for reader in followed:
        begun = next(event for event in reader if event.event == "tool")
        assert (begun.data["name"], begun.data["arguments"]) == ("hang", {})
    visitor.call("POST", answer["stop"])
    for reader, stream in zip(followed, streams, strict=True):
        assert list(reader)[-1].data["finish_reason"] == "stopped"
        stream.close()


def test_a_stop_ends_the_answer_while_a_tool_runs(site: Served) -> None:
    """Whichever worker is told; the model is not asked again."""
    for number in range(6):
        question = f"stop {number}"
        site.scripts[question] = calling({"hang": {}}, before="Let me see.")
        visitor = site.visitor()
        answer = visitor.ask(question)
        path = f"/api/answers/{answer['answer']['id']}"
        stream = visitor.stream(answer["events"])
        reader = iter(stream)
        next(event for event in reader if event.event == "tool")
        assert visitor.call("POST", answer["stop"]).status == 202
        end = list(reader)[-1]
        stream.close()
        assert (end.event, end.data["finish_reason"]) == ("done", "stopped")
        site.wait_until_written(answer["answer"]["id"])
        snapshot = poll(lambda path=path, visitor=visitor: stopped(visitor, path))
        assert snapshot["text"] == "Let me see."
        assert len(site.calls(question)) == 1


def stopped(visitor: Client, path: str) -> dict[str, Any] | None:
    """An answer's snapshot, once the worker that is asked has read its end."""
    snapshot: dict[str, Any] = visitor.get(path).json
    return snapshot if snapshot["status"] == "stopped" else None


def test_what_goes_wrong_is_told_to_the_model_and_the_answer_goes_on(site: Served) -> None:
    wrong = {"slow": {}, "large": {}, "sorry": {}, "right": {"number": "x"}, "unheard": {}}
    _, events = ask(site, "wrong", calling(wrong))
    errors = {each["name"]: each["error"] for each in tools(events) if "error" in each}
    assert errors["slow"] == "The tool did not answer within 0.3 s."
    assert errors["large"].startswith("The result is too large: 11 bytes")
    assert errors["sorry"] == "There is none."
    assert errors["right"].startswith("Invalid arguments:")
    assert errors["unheard"].startswith("There is no tool of this name.")
    assert joined(events).strip() == "The end."
    content = {
        each["tool_call_id"]: each["content"]
        for each in site.calls("wrong")[1].json["messages"]
        if each["role"] == "tool"
    }
    assert content == {f"0_{name}": f"Error: {text}" for name, text in errors.items()}


@pytest.mark.parametrize("stateless", [False, True], ids=["conversation", "history"])
def test_each_request_upstream_is_one_entry_of_the_ledger(site: Served, stateless: bool) -> None:
    """The last one has the usage of all."""
    question = f"ledger {stateless}"
    site.scripts[question] = calling(TWO, {"sorry": {}})
    visitor = site.visitor()
    body: dict[str, Any] = {"message": question}
    if stateless:
        body = {"messages": [{"role": "user", "content": question}]}
    answer = visitor.call("POST", "/api/chat", body).json
    events = visitor.stream(answer["events"]).all()
    assert events[-1].event == "done"
    query = (
        "SELECT outcome, total_tokens, model FROM chatapp_calls WHERE answer_id = ? "
        "AND ended_at IS NOT NULL ORDER BY started_at"
    )
    found = poll(lambda: len(rows := site.rows(query, answer["answer"]["id"])) > 2 and rows)
    model, total = "fake-model", 3 * USAGE["total_tokens"]
    assert found == [("tool_calls", 0, model), ("tool_calls", 0, model), ("done", total, model)]
    assert len(site.calls(question)) == 3


def test_the_next_question_does_not_repeat_the_calls(site: Served) -> None:
    """The conversation keeps what was said."""
    visitor, events = ask(site, "first", calling(TWO, before="Let me see."))
    conversation = events[0].data["conversation_id"]
    visitor.ask_streaming("next", conversation_id=conversation).all()
    [call] = site.calls("next")
    assert [each["role"] for each in call.json["messages"]] == ["user", "assistant", "user"]
    assert call.json["messages"][1]["content"] == joined(events)


def test_rounds_without_an_end_are_ended(site: Served) -> None:
    """After the last round that may call tools, the model is asked to answer without."""

    def script(call: Call) -> None:
        if call.json.get("tool_choice") == "none":
            call.head()
            call.text("Enough.")
            call.finish()
        else:
            calling(*[{"sorry": {}}] * 99)(call)

    _, events = ask(site, "for ever", script)
    assert joined(events) == "Enough."
    assert len(tools(events)) == 2 * 8
    assert len(site.calls("for ever")) == 9


def demanding(call: Call) -> None:
    """A server that refuses a second round without what it has said of itself in the first."""
    signature = {"google": {"thought_signature": "c2ln"}}
    asked = [each for each in call.json["messages"] if each.get("tool_calls")]
    if not asked:
        call.head()
        call.text("Which ", "reasoning_content")
        call.text("number?", "reasoning_content")
        function = {"name": "sorry", "arguments": "{}"}
        wanted = {"index": 0, "id": "c1", "function": function, "extra_content": signature}
        delta = {"tool_calls": [wanted], "reasoning_details": [{"data": "ZGF0"}]}
        call.event({"choices": [{"index": 0, "delta": delta}]})
        call.finish("tool_calls")
    elif (
        asked[0].get("reasoning_content") == "Which number?"
        and asked[0].get("reasoning_details") == [{"data": "ZGF0"}]
        and asked[0]["tool_calls"][0].get("extra_content") == signature
    ):
        call.head()
        call.text("None.")
        call.finish()
    else:
        call.refuse(400, "The reasoning_content must be passed back to the API.")


def test_a_server_gets_back_what_it_asks_for_between_rounds(site: Served) -> None:
    """Reasoning, signatures: two requests, and none of it is refused."""
    _, events = ask(site, "demanding", demanding)
    assert joined(events) == "None."
    assert events[-1].event == "done"
    assert len(site.calls("demanding")) == 2
