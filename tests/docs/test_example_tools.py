"""Functions that the model may call: `examples/tools`."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from examples.tools.calculator import MAX_LENGTH, evaluate
from tests.support.client import Client, Sent, joined
from tests.support.gunicorn import Gunicorn
from tests.support.upstream import Call, FakeUpstream


@pytest.fixture
def client(serve: Callable[..., Gunicorn]) -> Client:
    return Client(serve(app="examples.tools.app:app").url)


def calling(**calls: dict[str, Any]) -> Callable[[Call], None]:
    """A script that calls these tools, and then says what they have returned."""

    def script(call: Call) -> None:
        results = [each["content"] for each in call.json["messages"] if each["role"] == "tool"]
        call.head()
        if results:
            call.text(" ".join(results))
            call.finish()
            return
        wanted = [
            {
                "index": index,
                "id": f"call_{name}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for index, (name, arguments) in enumerate(calls.items())
        ]
        call.event({"choices": [{"index": 0, "delta": {"tool_calls": wanted}}]})
        call.finish("tool_calls")

    return script


def outcome(events: list[Sent], name: str) -> dict[str, Any]:
    """What a tool has returned."""
    [_, returned] = [
        each.data for each in events if each.event == "tool" and each.data["name"] == name
    ]
    return dict(returned)


def test_the_model_is_told_of_three_tools(client: Client, upstream: FakeUpstream) -> None:
    client.ask_streaming().all()
    tools = {
        each["function"]["name"]: each["function"] for each in upstream.calls[-1].json["tools"]
    }
    assert set(tools) == {"calculate", "find_products", "current_time"}
    assert tools["find_products"]["parameters"]["required"] == ["words"]
    about = tools["current_time"]["parameters"]["properties"]["zone"]["description"]
    assert "Asia/Shanghai" in about


def test_tools_run_and_the_model_answers_from_what_they_return(
    client: Client, upstream: FakeUpstream
) -> None:
    upstream.script = calling(
        calculate={"expression": "6 * 690 + 4200"},
        find_products={"words": "TEA", "in_stock": True},
        current_time={"zone": "Asia/Shanghai"},
    )
    events = client.ask_streaming("How much?").all()
    assert outcome(events, "calculate")["result"] == 8340
    assert outcome(events, "find_products")["result"] == [
        {"name": "Tea pot", "cents": 3450, "stock": 12},
        {"name": "Tea cup", "cents": 690, "stock": 80},
    ]
    assert outcome(events, "current_time")["result"].endswith("+08:00")
    assert "8340" in joined(events)
    assert len(upstream.calls) == 2


def test_what_goes_wrong_is_a_sentence_for_the_model(
    client: Client, upstream: FakeUpstream
) -> None:
    upstream.script = calling(
        calculate={"expression": "__import__('os').getcwd()"},
        find_products={"words": "' OR 1=1 --"},
        current_time={"zone": "../../etc/passwd"},
    )
    events = client.ask_streaming("Break it").all()
    assert "can't be used here" in outcome(events, "calculate")["error"]
    assert outcome(events, "find_products")["result"] == []
    assert "Europe/Berlin" in outcome(events, "current_time")["error"]
    assert events[-1].event == "done"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", 7),
        ("-(2 ** 3) % 5", 2),
        ("max(1, sqrt(16), 3)", 4),
        ("2 * pi", 6.283185307179586),
        (" 1 / 4 ", 0.25),
    ],
)
def test_the_calculator_calculates(expression: str, value: float) -> None:
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        *("", "1 +", "1 / 0", "log(0)", "9 ** 9 ** 9 ** 9", "1e308 * 10", "(-8) ** 0.5", "max()"),
        *("'a' * 10 ** 9", "().__class__", "[1][0]", "(lambda: 1)()", "x := 1", "sqrt(x=4)"),
        *("cos(1)", "open('/etc/passwd')", "(" * MAX_LENGTH, "1" * (MAX_LENGTH + 1), "\0"),
    ],
)
def test_the_calculator_refuses_everything_else(expression: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        evaluate(expression)
