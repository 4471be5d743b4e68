"""Rounds of tool calls are one answer: its text, its usage, and its one end."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.answers.answer import Deltas
from chatapp.answers.events import EventType
from chatapp.errors import (
    ChatAppError,
    InternalError,
    Interrupted,
    ToolRoundsUsed,
    UpstreamBusy,
    UpstreamCut,
    UpstreamEmpty,
)
from chatapp.generation.tools.executor import ToolContext
from chatapp.generation.tools.registry import Tools
from chatapp.generation.tools.rounds import RoundsCancellation, ToolRounds
from chatapp.runtime.stall_watch import StallWatch
from chatapp.upstream.tool_calls import Fragment, ToolCall
from tests.support.hypothesis_settings import FEW, TEXTS

TEXT, REASONING, TOOL = EventType.TEXT, EventType.REASONING, EventType.TOOL
QUESTION = [{"role": "user", "content": "How much?"}]


def wants(name: str, arguments: str = "{}", call_id: str | None = "c1") -> ToolCall:
    return ToolCall(0, call_id, Fragment(name, arguments))


class FakeRound:
    """A round of the upstream: pieces, then calls or a fault."""

    def __init__(
        self,
        *pieces: str | tuple[EventType, str],
        calls: Sequence[ToolCall] = (),
        fault: Exception | None = None,
        reason: str = "stop",
        source: str = "provider",
        later: bool = False,
        sent_back: dict[str, Any] | None = None,
    ) -> None:
        self.finish_reason: str | None = None
        self.pieces = [(TEXT, each) if isinstance(each, str) else each for each in pieces]
        self.tool_calls = calls
        self.fault = fault
        self.reason = reason
        self.source = source
        self.later = later
        self.closed = 0
        self.sent_back = sent_back or {}

    def copy(
        self, write: Callable[[Deltas], bool], ended: Callable[[Exception | None], None]
    ) -> None:
        if self.later:  # as where a body reader does the work
            threading.Thread(target=self._copy, args=(write, ended), daemon=True).start()
        else:
            self._copy(write, ended)

    def _copy(
        self, write: Callable[[Deltas], bool], ended: Callable[[Exception | None], None]
    ) -> None:
        try:
            for piece in self.pieces:
                if not write([piece]):
                    self.finish_reason = "length"
                    break
            else:
                if self.fault:
                    raise self.fault
                self.finish_reason = self.reason
        except Exception as error:
            ended(error)
        else:
            ended(None)

    def usage(self, text: str) -> tuple[dict[str, int], str]:
        tokens = len(text)
        return {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens}, (
            self.source
        )

    def close(self) -> None:
        self.closed += 1


class Talk:
    """An upstream that plays these rounds, and what came of them."""

    def __init__(self, *script: FakeRound | ChatAppError, tools: Tools, rounds: int = 8) -> None:
        self.script = list(script)
        self.asked: list[tuple[list[dict[str, Any]], bool]] = []
        self.events: list[tuple[EventType, Any]] = []
        self.ends: list[Exception | None] = []
        self.over = threading.Event()
        self.room = 1000
        self.cancellation = RoundsCancellation()
        self.open_at_cancel: list[int] = []
        context = ToolContext("ann", "a", "c")
        self.stream = ToolRounds(
            self.open, QUESTION, tools, context, self.cancellation, self.write_event, rounds
        )

    def open(self, messages: list[dict[str, Any]], may_call: bool) -> FakeRound:
        self.cancellation.enter(lambda: self.open_at_cancel.append(len(self.asked)))
        self.asked.append((list(messages), may_call))
        step = self.script[len(self.asked) - 1]
        if isinstance(step, ChatAppError):
            raise step
        return step

    def write(self, pieces: Deltas) -> bool:
        for piece in pieces:
            self.events.append(piece)
        return len(self.events) < self.room

    def write_event(self, kind: EventType, fields: dict[str, Any]) -> None:
        self.events.append((kind, fields))

    def ended(self, fault: Exception | None) -> None:
        self.ends.append(fault)
        self.over.set()

    def play(self) -> "Talk":
        self.stream.copy(self.write, self.ended)
        assert self.over.wait(30)
        assert len(self.ends) == 1
        return self

    @property
    def text(self) -> str:
        return "".join(each for kind, each in self.events if kind is TEXT)

    @property
    def tool_events(self) -> list[dict[str, Any]]:
        return [each for kind, each in self.events if kind is TOOL]


def price(item: str) -> dict[str, int]:
    """The price of an item."""
    if item == "broken":
        raise LookupError("secret")
    return {"price": len(item)}


@pytest.fixture
def tools() -> Tools:
    made = Tools(30.0, 1000, StallWatch(9))
    made.register(price)
    return made


def test_without_tool_calls_it_is_the_stream_itself(tools: Tools) -> None:
    only = FakeRound((REASONING, "hm"), "Hel", "lo")
    talk = Talk(only, tools=tools).play()
    assert talk.events == [(REASONING, "hm"), (TEXT, "Hel"), (TEXT, "lo")]
    assert talk.asked == [(QUESTION, True)]
    assert (talk.stream.finish_reason, talk.ends) == ("stop", [None])
    expected = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    assert talk.stream.usage("") == (expected, "provider")
    assert only.closed == 0
    talk.stream.close()
    assert only.closed == 1


@pytest.mark.parametrize("later", [False, True])
def test_calls_are_run_and_told_and_the_answer_goes_on(tools: Tools, later: bool) -> None:
    first = FakeRound("Let me see.", calls=[wants("price", '{"item": "tea"}')], later=later)
    second = FakeRound("It is 3.", later=later)
    talk = Talk(first, second, tools=tools).play()
    about = {"id": "c1", "name": "price"}
    assert talk.events == [
        (TEXT, "Let me see."),
        (TOOL, about | {"arguments": {"item": "tea"}}),
        (TOOL, about | {"result": {"price": 3}}),
        (TEXT, "\n\n"),
        (TEXT, "It is 3."),
    ]
    function = {"name": "price", "arguments": '{"item": "tea"}'}
    assert talk.asked[1] == (
        [
            *QUESTION,
            {
                "role": "assistant",
                "content": "Let me see.",
                "tool_calls": [{"id": "c1", "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": '{"price":3}'},
        ],
        True,
    )
    assert (talk.stream.finish_reason, talk.ends) == ("stop", [None])
    assert first.closed == 1, "its connection is free while the tools run"
    talk.stream.close()
    assert (first.closed, second.closed) == (1, 1)


def test_the_history_that_was_given_stays_as_it_was(tools: Tools) -> None:
    before = [dict(each) for each in QUESTION]
    Talk(FakeRound(calls=[wants("price")]), FakeRound("x"), tools=tools).play()
    assert before == QUESTION


@pytest.mark.parametrize(
    ("before", "after", "whole"),
    [
        ("a", "b", "a\n\nb"),
        ("a\n", "b", "a\nb"),
        ("a", "\nb", "a\nb"),
        ("", "b", "b"),
        ("a", "", "a"),
    ],
)
def test_the_text_of_rounds_is_kept_apart_once(
    tools: Tools, before: str, after: str, whole: str
) -> None:
    pieces = [before] if before else []
    script = [FakeRound(*pieces, calls=[wants("price")]), FakeRound(calls=[wants("price")])]
    assert Talk(*script, FakeRound(after, ""), tools=tools).play().text == whole


def test_usage_is_the_sum_of_the_rounds_also_while_one_is_under_way(tools: Tools) -> None:
    script = [FakeRound("ab", calls=[wants("price")]), FakeRound("c", fault=UpstreamCut("Cut."))]
    usage, source = Talk(*script, tools=tools).play().stream.usage("")
    assert usage == {"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23}
    assert source == "provider"


def test_usage_of_which_a_part_was_estimated_is_estimated(tools: Tools) -> None:
    script = [FakeRound(calls=[wants("price")], source="estimated"), FakeRound("c")]
    assert Talk(*script, tools=tools).play().stream.usage("")[1] == "estimated"


def test_what_goes_wrong_with_a_tool_is_told_to_model_and_reader(tools: Tools) -> None:
    calls = [wants("price", '{"item": "broken"}', "1"), wants("price", "{", "2")]
    calls.append(wants("no such", "{}", "3"))
    talk = Talk(FakeRound(calls=calls), FakeRound("Sorry."), tools=tools).play()
    errors = {each["id"]: each["error"] for each in talk.tool_events if "error" in each}
    assert errors["1"] == "The tool failed."
    assert errors["2"].startswith("Invalid arguments")
    assert errors["3"].startswith("There is no tool of this name")
    messages = talk.asked[1][0]
    assert [each["content"] for each in messages[2:]] == [f"Error: {errors[n]}" for n in "123"]
    assert "secret" not in str(messages)
    assert talk.ends == [None]
    # What goes back to the upstream is always valid: names as OpenAI takes them, arguments as JSON.
    sent = [each["function"] for each in messages[1]["tool_calls"]]
    assert [each["name"] for each in sent] == ["price", "price", "no_such"]
    assert [each["arguments"] for each in sent] == ['{"item": "broken"}', "{}", "{}"]
    assert talk.tool_events[1]["arguments"] == "{"


def test_every_call_of_an_answer_has_an_id_of_its_own(tools: Tools) -> None:
    """Some servers send none, or the same in every round."""
    ids = ["x", "x", None, "", "two words", "call_2"]
    calls = [wants("price", '{"item": "a"}', each) for each in ids]
    script = [FakeRound(calls=calls), FakeRound(calls=calls[:1]), FakeRound("end")]
    talk = Talk(*script, tools=tools).play()
    begun = [each["id"] for each in talk.tool_events if "arguments" in each]
    assert len(begun) == len(set(begun)) == 7
    over = [each["id"] for each in talk.tool_events if "arguments" not in each]
    assert sorted(over) == sorted(begun)
    last = talk.asked[2][0]
    answered = [each["tool_call_id"] for each in last if each["role"] == "tool"]
    assert answered == begun


@FEW
@given(st.none() | TEXTS, st.none() | TEXTS, st.none() | TEXTS | st.just("\ud800"))
def test_whatever_a_server_calls_a_tool_the_answer_comes_to_its_end(
    call_id: str | None, name: str | None, arguments: str | None
) -> None:
    call = ToolCall(None, call_id, Fragment(name, arguments))
    script = [FakeRound(calls=[call, ToolCall()]), FakeRound("end")]
    talk = Talk(*script, tools=Tools(30.0, 1000, StallWatch(9))).play()
    assert talk.ends == [None]
    str(talk.asked[1]).encode()
    str(talk.tool_events).encode()


def test_after_the_last_round_the_model_is_asked_to_answer_without_tools(tools: Tools) -> None:
    calling = [FakeRound(calls=[wants("price")]) for _ in range(2)]
    talk = Talk(*calling, FakeRound("So it is."), tools=tools, rounds=2).play()
    assert [may_call for _, may_call in talk.asked] == [True, True, False]
    assert (talk.text, talk.ends) == ("So it is.", [None])


def test_a_model_that_calls_on_all_the_same_ends_the_answer(tools: Tools) -> None:
    calling = [FakeRound("a", calls=[wants("price")]) for _ in range(3)]
    talk = Talk(*calling, tools=tools, rounds=2).play()
    assert [type(each) for each in talk.ends] == [ToolRoundsUsed]
    assert len(talk.asked) == 3
    assert talk.text == "a\n\na\n\na"
    assert talk.stream.usage("")[0]["prompt_tokens"] == 30


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_the_calls_of_an_answer_that_was_cut_off_are_not_run(tools: Tools, reason: str) -> None:
    talk = Talk(FakeRound("a", calls=[wants("price")], reason=reason), tools=tools).play()
    assert (talk.tool_events, talk.stream.finish_reason, talk.ends) == ([], reason, [None])


def test_an_answer_that_is_as_long_as_allowed_calls_nothing(tools: Tools) -> None:
    talk = Talk(FakeRound("a", "b", calls=[wants("price")]), tools=tools)
    talk.room = 1
    talk.play()
    assert (talk.text, talk.tool_events, talk.stream.finish_reason) == ("a", [], "length")


def test_the_first_refusal_is_raised_and_a_later_one_ends_the_answer(tools: Tools) -> None:
    busy = UpstreamBusy("Busy.")
    with pytest.raises(UpstreamBusy):
        Talk(busy, tools=tools)
    talk = Talk(FakeRound("a", calls=[wants("price")]), busy, tools=tools).play()
    assert talk.ends == [busy]
    talk.stream.close()
    assert talk.stream.usage("")[0]["prompt_tokens"] == 10


def test_a_fault_of_a_round_ends_the_answer_and_runs_nothing(tools: Tools) -> None:
    cut = UpstreamCut("Cut.")
    talk = Talk(FakeRound("a", calls=[wants("price")], fault=cut), tools=tools).play()
    assert (talk.ends, talk.tool_events) == ([cut], [])


def test_a_fault_in_writing_an_event_ends_the_answer(tools: Tools) -> None:
    talk = Talk(FakeRound(calls=[wants("price")]), FakeRound("never"), tools=tools)
    fault = InternalError("The log is gone.")

    def fail(_kind: EventType, _fields: dict[str, Any]) -> None:
        raise fault

    talk.stream._write_event = fail
    assert talk.play().ends == [fault]
    assert len(talk.asked) == 1


def test_what_only_the_upstream_understands_goes_back_as_it_came(tools: Tools) -> None:
    """Of the message, of the call and of its function; ours wins where both say the same."""
    signature = {"google": {"thought_signature": "abc"}}
    call = ToolCall(0, "c1", Fragment("price", '{"item": "tea"}'))
    call.extra = {"extra_content": signature, "id": "theirs", "function": {"strict": True}}
    first = FakeRound(
        "\n\nI look.",
        calls=[call],
        sent_back={"reasoning_content": "r", "content": "<think>t</think>"},
    )
    talk = Talk(first, FakeRound("Done."), tools=tools).play()
    asked = talk.asked[1][0][1]
    function = {"strict": True, "name": "price", "arguments": '{"item": "tea"}'}
    assert asked == {
        "role": "assistant",
        "reasoning_content": "r",
        "content": "<think>t</think>\n\nI look.",
        "tool_calls": [
            {"extra_content": signature, "id": "c1", "type": "function", "function": function}
        ],
    }


def test_a_last_round_that_says_nothing_ends_an_answer_that_has_a_text_or_a_tool(
    tools: Tools,
) -> None:
    for text in ("It is 3.", ""):
        empty = FakeRound(fault=UpstreamEmpty("Nothing."))
        talk = Talk(FakeRound(text, calls=[wants("price")]), empty, tools=tools).play()
        assert talk.ends == [None]
    talk = Talk(FakeRound(fault=UpstreamEmpty("Nothing.")), tools=tools).play()
    assert [type(end) for end in talk.ends] == [UpstreamEmpty]


class TestStopping:
    def test_while_a_tool_runs(self, tools: Tools) -> None:
        running, may_end = threading.Event(), threading.Event()

        def hang() -> None:
            """Hang."""
            running.set()
            may_end.wait(30)

        tools.register(hang)
        talk = Talk(FakeRound("a", calls=[wants("hang")]), FakeRound("never"), tools=tools)
        threading.Thread(target=talk.stream.copy, args=(talk.write, talk.ended)).start()
        assert running.wait(30)
        talk.cancellation.cancel()
        assert talk.over.wait(30)
        may_end.set()
        assert [type(each) for each in talk.ends] == [Interrupted]
        assert len(talk.asked) == 1, "the upstream is not asked again"
        assert "result" not in talk.tool_events[-1]

    def test_while_the_last_result_is_written(self, tools: Tools) -> None:
        talk = Talk(FakeRound(calls=[wants("price")]), FakeRound("never"), tools=tools)
        plain = talk.write_event

        def stopped(kind: EventType, fields: dict[str, Any]) -> None:
            plain(kind, fields)
            if "arguments" not in fields:
                talk.cancellation.cancel()

        talk.stream._write_event = stopped
        assert [type(each) for each in talk.play().ends] == [Interrupted]
        assert len(talk.asked) == 1

    def test_between_two_phases(self, tools: Tools) -> None:
        first = FakeRound(calls=[wants("price")])
        talk = Talk(first, FakeRound("never"), tools=tools)
        talk.cancellation.cancel()
        assert [type(each) for each in talk.play().ends] == [Interrupted]
        assert (talk.tool_events, first.closed) == ([], 1)

    def test_the_cancellation_ends_what_runs_at_the_moment_and_nothing_later_begins(self) -> None:
        cancellation, ended = RoundsCancellation(), []
        cancellation.enter(lambda: ended.append("first"))
        cancellation.enter(lambda: ended.append("second"))
        cancellation.cancel()
        cancellation.cancel()
        assert ended == ["second", "second"]
        with pytest.raises(Interrupted):
            cancellation.enter(lambda: ended.append("third"))
        assert "third" not in ended

    def test_cancelled_before_anything_began_is_remembered(self) -> None:
        cancellation = RoundsCancellation()
        cancellation.cancel()
        with pytest.raises(Interrupted):
            cancellation.enter(lambda: None)
