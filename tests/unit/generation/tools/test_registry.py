"""A tool is a function and its description; whatever goes wrong with it, the answer goes on."""

import datetime
import enum
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.errors import ConfigError
from chatapp.generation.tools.executor import Call, ToolContext, ToolResult
from chatapp.generation.tools.registry import ToolError, Tools
from chatapp.generation.tools.schema import Undescribable, parameter_texts
from chatapp.runtime.stall_watch import StallWatch
from tests.support.hypothesis_settings import MANY, TEXTS

if TYPE_CHECKING:
    from decimal import Decimal

CONTEXT = ToolContext("ann", "answer", None)


def made(**options: Any) -> Tools:
    return Tools(**({"timeout": 30.0, "max_bytes": 1000, "watch": StallWatch(9)} | options))


@pytest.fixture
def tools() -> Tools:
    return made()


def call(name: str, arguments: str = "{}", call_id: str = "1") -> Call:
    return Call(call_id, name, arguments)


def one(tools: Tools, name: str, arguments: str = "{}") -> ToolResult:
    (result,) = tools.run([call(name, arguments)], CONTEXT)
    return result


class Unit(enum.Enum):
    CELSIUS = "c"
    FAHRENHEIT = "f"


@dataclass
class Place:
    city: str
    country: str = "NL"


def weather(  # noqa: D417 - not all need a text
    context: ToolContext,
    place: Place,
    day: datetime.date,
    unit: Unit = Unit.CELSIUS,
    hours: Annotated[int, msgspec.Meta(ge=1, description="How many hours ahead.")] = 24,
    tags: list[str] = [],  # noqa: B006 - defaults that can be changed must do, too
) -> dict[str, Any]:
    """The weather of
    a place.

    It comes from a service.

    Args:
        place: Where,
            in words.
        day (date): When.
        hours: Not this text.

    """
    about = [place, day, unit, hours, tags]
    return {"owner": context.owner, "about": [repr(each) for each in about]}


class TestDescription:
    def test_a_spec_has_the_types_the_texts_and_what_is_required(self, tools: Tools) -> None:
        tools.register(weather)
        (spec,) = tools.specs()
        assert spec["type"] == "function"
        function = spec["function"]
        assert function["name"] == "weather"
        assert function["description"] == "The weather of a place."
        parameters = function["parameters"]
        assert parameters["type"] == "object"
        assert parameters["required"] == ["place", "day"]
        assert parameters["additionalProperties"] is False
        properties = parameters["properties"]
        assert list(properties) == ["place", "day", "unit", "hours", "tags"]
        assert properties["place"] == {
            "$ref": "#/$defs/Place",
            "description": "Where, in words.",
        }
        assert properties["day"] == {"type": "string", "format": "date", "description": "When."}
        assert properties["hours"]["description"] == "How many hours ahead."
        assert (properties["hours"]["minimum"], properties["hours"]["default"]) == (1, 24)
        assert parameters["$defs"]["Unit"]["enum"] == ["c", "f"]
        assert parameters["$defs"]["Place"]["required"] == ["city"]
        msgspec.json.encode(spec)

    def test_the_function_gets_the_context_and_values_of_its_own_types(self, tools: Tools) -> None:
        tools.register(weather)
        arguments = '{"place": {"city": "Delft"}, "day": "2024-02-29", "unit": "f"}'
        result = one(tools, "weather", arguments)
        assert result.error is None
        assert result.result == {
            "owner": "ann",
            "about": [
                repr(Place("Delft")),
                repr(datetime.date(2024, 2, 29)),
                repr(Unit.FAHRENHEIT),
                "24",
                "[]",
            ],
        }
        assert msgspec.json.decode(result.content) == result.result

    def test_the_docstring_styles_say_the_same(self) -> None:
        google = """One.

Args:
    x: The first
        of two.
    y (int, optional): The second: last.

Returns:
    z: Nothing.
"""
        sphinx = """One.

:param x: The first
    of two.
:type x: int
:param int y: The second: last.
:returns: z: nothing.
"""
        numpy = """One.

Parameters
----------
x : int
    The first
    of two.
y
    The second: last.

Returns
-------
z : int
    Nothing.
"""
        expected = {"x": "The first of two.", "y": "The second: last."}
        assert [parameter_texts(doc) for doc in (google, sphinx, numpy)] == [expected] * 3

    @MANY
    @given(st.lists(TEXTS | st.sampled_from(["Args:", "Parameters", "---", ":param x:", "  x: y"])))
    def test_no_docstring_is_too_strange(self, lines: list[str]) -> None:
        texts = parameter_texts("\n".join(lines))
        assert all(isinstance(each, str) for each in texts.values())

    def test_without_parameters_the_schema_is_an_empty_object(self, tools: Tools) -> None:
        def now() -> str:
            """The time."""
            return "noon"

        tools.register(now, name="what-time")
        function = tools.specs()[0]["function"]
        assert (function["name"], function["parameters"]["properties"]) == ("what-time", {})
        for nothing in ("", " ", "{}"):
            assert one(tools, "what-time", nothing).result == "noon"

    @pytest.mark.parametrize("name", ["function", "self", "name", "context", "args", "kwargs"])
    def test_a_parameter_may_have_any_name(self, tools: Tools, name: str) -> None:
        namespace: dict[str, Any] = {}
        exec(f"def echo({name}: str) -> str:\n    'Echo.'\n    return {name}", namespace)
        tools.register(namespace["echo"])
        assert one(tools, "echo", f'{{"{name}": "x"}}').result == "x"


def no_docstring(x: int) -> int:
    return x


def no_type(x) -> int:  # type: ignore[no-untyped-def]
    """X."""
    return int(x)


def unknown_type(x: "Decimal") -> str:
    """X."""
    return str(x)


def foreign_type(x: threading.Thread) -> str:
    """X."""
    return str(x)


def context_last(x: int, context: ToolContext) -> str:
    """X."""
    return f"{x} {context}"


def many(*x: int) -> int:
    """X."""
    return sum(x)


def named(**x: int) -> int:
    """X."""
    return len(x)


def positional(x: int, /) -> int:
    """X."""
    return x


def generates(x: int) -> Iterator[int]:
    """X."""
    yield x


async def waits(x: int) -> int:
    """X."""
    return x


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (no_docstring, "has no docstring"),
        (no_type, "has no type for x. Write x: str"),
        (unknown_type, "'Decimal' is not defined.*TYPE_CHECKING"),
        (foreign_type, "JSON can't express.*Use str"),
        (context_last, "as the first parameter"),
        (many, r"takes \*x"),
        (named, r"takes \*\*x"),
        (positional, "takes x"),
        (generates, "Return the whole result"),
        (waits, "is async. Make it a plain function"),
        (lambda: 1, "pass name="),
        (print, "Register a function that calls it"),
        (Place, "Register a function that calls it"),
    ],
)
def test_what_can_not_be_described_is_refused_with_what_to_do(
    tools: Tools, function: Callable[..., Any], says: str
) -> None:
    with pytest.raises(Undescribable, match=says):
        tools.register(function)
    assert tools.specs() == []


@pytest.mark.parametrize("name", ["", "two words", "größe", "x" * 65, "a\nb"])
def test_a_name_that_openai_would_refuse_is_refused_here(tools: Tools, name: str) -> None:
    if name:
        with pytest.raises(Undescribable, match="64 letters"):
            tools.register(weather, name=name)
    else:
        tools.register(weather, name=name)
        assert tools.specs()[0]["function"]["name"] == "weather"


def test_a_name_is_given_once(tools: Tools) -> None:
    tools.register(weather)
    with pytest.raises(ConfigError, match="name="):
        tools.register(weather)
    tools.register(weather, name="forecast")
    assert len(tools) == 2


@pytest.mark.parametrize("limit", [{"timeout": 0}, {"timeout": float("nan")}, {"max_bytes": 0}])
def test_limits_that_make_no_sense_are_refused(tools: Tools, limit: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        tools.register(weather, **limit)


def add(x: int, y: int = 2) -> int:
    """Add."""
    return x + y


class TestFaults:
    """Each becomes an error for the model, and none an exception."""

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ('{"x": "1"}', "Expected `int`, got `str` - at `$.x`"),
            ('{"y": 1}', "missing required field `x`"),
            ('{"x": 1, "z": 1}', "unknown field `z`"),
            ("[1]", "Expected `object`"),
            ("{", "truncated"),
            ('{"x": "\\ud800"}', "Invalid arguments"),
            ("[" * 100_000, "Invalid arguments"),
            ('{"x": 1, "' + "z" * 5000 + '": 1}', "unknown field"),
            ("\ud800", "Invalid arguments"),
        ],
    )
    def test_arguments_that_do_not_fit(self, tools: Tools, arguments: str, says: str) -> None:
        tools.register(add)
        result = one(tools, "add", arguments)
        assert result.error is not None
        assert result.error.startswith("Invalid arguments: ")
        assert says in result.error
        assert len(result.error) <= 1000

    @MANY
    @given(TEXTS)
    def test_whatever_the_model_writes_there_is_a_result(self, arguments: str) -> None:
        tools = made()
        tools.register(add)
        assert one(tools, "add", arguments).error is not None or not arguments.strip()

    def test_a_tool_that_does_not_exist(self, tools: Tools) -> None:
        assert "Available tools: none." in str(one(tools, "multiply").error)
        tools.register(add)
        assert "Available tools: add." in str(one(tools, "multiply").error)

    def test_the_models_mistakes_are_not_called_faults_of_the_tool(
        self, tools: Tools, caplog: pytest.LogCaptureFixture
    ) -> None:
        tools.register(add)
        one(tools, "add", "{")
        one(tools, "multiply")
        assert caplog.text == ""

    @pytest.mark.parametrize("fault", [LookupError("secret"), SystemExit(1), KeyboardInterrupt()])
    def test_what_a_function_raises_stays_in_the_log(
        self, tools: Tools, caplog: pytest.LogCaptureFixture, fault: BaseException
    ) -> None:
        def broken() -> None:
            """Break."""
            raise fault

        tools.register(broken)
        assert one(tools, "broken").error == "The tool failed."
        assert "tool broken failed" in caplog.text
        assert type(fault).__name__ in caplog.text

    def test_what_the_model_should_know_is_raised_as_a_tool_error(
        self, tools: Tools, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(text: str) -> None:
            """Break."""
            raise ToolError(text + "\ud800" * 2000)

        tools.register(broken)
        error = one(tools, "broken", '{"text": "No such city."}').error
        assert error is not None
        assert error.startswith("No such city.")
        assert len(error.encode()) <= 4000
        assert caplog.text == ""

    @pytest.mark.parametrize("result", ["é" * 501, ["x" * 998], {"a": {"b": "c" * 1000}}])
    def test_a_result_that_is_too_large(self, tools: Tools, result: Any) -> None:
        def large() -> Any:
            """Much."""
            return result

        tools.register(large)
        assert "1000 are allowed. Ask for less." in str(one(tools, "large").error)
        tools.register(large, name="larger", max_bytes=1100)
        assert one(tools, "larger").result == result

    @pytest.mark.parametrize("result", [object(), iter(()), "\ud800", {"a": {1, object()}}])
    def test_a_result_that_json_can_not_say(
        self, tools: Tools, result: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        def odd() -> Any:
            """Odd."""
            return result

        tools.register(odd)
        assert "can't be read" in str(one(tools, "odd").error)
        assert "tool odd" in caplog.text

    def test_a_result_that_holds_itself(self, tools: Tools) -> None:
        def endless() -> Any:
            """Odd."""
            inner: list[Any] = []
            inner.append(inner)
            return inner

        tools.register(endless)
        assert one(tools, "endless").error is not None

    @pytest.mark.parametrize(
        ("returned", "result", "content"),
        [
            ("plain", "plain", "plain"),
            ("", "", ""),
            (None, None, "null"),
            (Place("Delft"), {"city": "Delft", "country": "NL"}, '{"city":"Delft","country":"NL"}'),
            (datetime.date(2024, 2, 29), "2024-02-29", '"2024-02-29"'),
        ],
    )
    def test_a_text_is_given_as_it_is_and_the_rest_as_json(
        self, tools: Tools, returned: Any, result: Any, content: str
    ) -> None:
        def give() -> Any:
            """Give."""
            return returned

        tools.register(give)
        given = one(tools, "give")
        assert (given.result, given.content, given.error) == (result, content, None)
