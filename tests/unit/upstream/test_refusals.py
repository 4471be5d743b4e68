"""What becomes of a refusal: the right error, and a second try where an option was refused."""

import json
from typing import Any

import pytest

from chatapp.answers.events import EventType
from chatapp.errors import ChatAppError
from chatapp.upstream.advice import error_for, reported
from chatapp.upstream.refused_options import (
    MAX_MODELS,
    REMEMBERED_SECONDS,
    RENAMED,
    RefusedOptions,
    without,
)
from chatapp.upstream.reports import Report
from chatapp.upstream.transport import Cancellation
from tests.support import upstream_client
from tests.support.dialects import Dialect, dialects
from tests.support.upstream import Call, FakeUpstream, speak
from tests.support.upstream_client import HISTORY, Connect

connect = upstream_client.connect
REFUSALS = dialects("refusals")
OPTIONS = [each for each in REFUSALS if each.answer.get("tries") == 2]
NO_OPTION = [each for each in REFUSALS if each not in OPTIONS]


def asked(way: Any, dialect: Dialect, model: str = "m") -> str:
    """The answer to a question with the dialect's options."""
    stream = way.open(model, HISTORY, dialect.ask.options, Cancellation())
    try:
        return "".join(text for kind, text in stream if kind is EventType.TEXT)
    finally:
        stream.close()


def refused(way: Any, dialect: Dialect) -> ChatAppError:
    with pytest.raises(ChatAppError) as caught:
        asked(way, dialect)
    return caught.value


def named(dialect: Dialect) -> set[str]:
    """What of the request the refusal names."""
    said = json.dumps(dialect.reply.body)
    return {name for name in (*dialect.ask.options, "stream_options") if name in said}


@pytest.mark.parametrize("dialect", REFUSALS, ids=str)
def test_a_refusal_is_what_it_means(
    connect: Connect, upstream: FakeUpstream, dialect: Dialect
) -> None:
    """One request for one question, but for the single second try."""
    upstream.script = dialect
    error = refused(connect(**dialect.ask.settings), dialect)
    right = {"param": None, "message": ""} | dialect.answer
    tries = right.pop("tries", 1)
    assert right.pop("message") in error.message
    assert right == {"code": error.code, "retryable": error.retryable, "param": error.param}
    assert error.message.endswith(".")
    assert len(upstream.calls) == tries
    assert f"status {dialect.reply.status} from POST {upstream.url}/chat/completions" in error.seen


@pytest.mark.parametrize("dialect", OPTIONS, ids=str)
def test_a_refused_option_is_left_out_once_it_is_known(
    connect: Connect, upstream: FakeUpstream, dialect: Dialect
) -> None:
    """In the same question, in the next ones to this model, and in none to another."""

    def script(call: Call) -> None:
        if left_out & call.json.keys():
            dialect(call)
        else:
            speak("ok")(call)

    upstream.script, way = script, connect()
    left_out = named(dialect) - {"top_p"}
    assert left_out
    assert [asked(way, dialect) for _ in range(3)] == ["ok"] * 3
    assert [bool(left_out & call.json.keys()) for call in upstream.calls] == [True, *[False] * 3]
    second = upstream.calls[1].json
    kept = {name: value for name, value in upstream.calls[0].json.items() if name not in left_out}
    renamed = {RENAMED[name]: dialect.ask.options[name] for name in left_out & RENAMED.keys()}
    assert second == kept | renamed
    assert asked(way, dialect, "other") == "ok"
    assert len(upstream.calls) == 6


def test_what_did_not_help_is_not_remembered(connect: Connect, upstream: FakeUpstream) -> None:
    dialect = next(each for each in OPTIONS if each.name == "stream_options_unknown")
    upstream.script, way = dialect, connect()
    for _ in range(2):
        refused(way, dialect)
    assert ["stream_options" in call.json for call in upstream.calls] == [True, False] * 2


def test_another_option_that_is_refused_then_is_told_and_not_tried(
    connect: Connect, upstream: FakeUpstream
) -> None:
    script = {each.name: each for each in OPTIONS}
    temperature = script["temperature_default_only"]

    def picky(call: Call) -> None:
        if "stream_options" in call.json:
            script["stream_options_unknown"](call)
        elif "temperature" in call.json:
            temperature(call)
        else:
            speak("ok")(call)

    upstream.script, way = picky, connect()
    error = refused(way, temperature)
    assert (error.code, error.param) == ("upstream_rejected", "temperature")
    assert len(upstream.calls) == 2


@pytest.mark.parametrize("word", ["stop", "user", "seed"])
def test_an_option_that_is_a_word_counts_in_quotation_marks_only(word: str) -> None:
    def blamed(text: str) -> str | None:
        return error_for(Report.of_reply(400, text), asked={word}).param

    assert blamed(f"The {word} is unknown here.") is None
    for mark in ('"', "'", "`"):
        assert blamed(f"The parameter {mark}{word}{mark} is unknown here.") == word


@pytest.mark.parametrize("status", [401, 403, 404, 413, 429, 502, 503])
def test_other_statuses_are_about_no_option(status: int) -> None:
    report = Report.of_reply(status, "Unknown parameter: 'temperature'")
    assert report.blames is None
    assert error_for(report, "m", {"temperature"}).param in (None, "model")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"message": "x", "code": 429}, "upstream_busy"),
        ({"message": "x", "code": "502"}, "upstream_error"),
        ({"type": "overloaded_error", "message": "Overloaded"}, "upstream_busy"),
        ({"message": "Rate limit reached", "type": "rate_limit_exceeded"}, "upstream_busy"),
        ({"message": "x", "code": 402}, "upstream_quota"),
        ({"message": "This model's maximum context length is 9"}, "upstream_too_long"),
        ("Unexpected endpoint or method. (POST /chat/completions)", "upstream_address"),
        ({"message": "x"}, "upstream_error"),
        ("x", "upstream_error"),
        ({"code": 10**30}, "upstream_error"),
        (True, "upstream_error"),
    ],
)
def test_an_error_in_a_stream_goes_by_the_same_table(error: Any, code: str) -> None:
    fault = reported(error)
    assert fault.code == code
    assert fault.seen == f"reported in the stream: {str(error)!r}"


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("Please try again in 4.77s.", 4.77),
        ("try again in 350ms", 0.35),
        ("Please retry in 31.5s.", 31.5),
        ("Try again in 6m0s", 360),
        ("try again in 2m", 120),
        ("retry after 20 seconds", 20),
        ("try again later", None),
    ],
)
def test_a_sentence_may_say_when_to_come_back(words: str, seconds: float | None) -> None:
    report = Report.of_reply(429, json.dumps({"error": {"message": words}}))
    assert report.wait == seconds
    assert error_for(report).retry_after == seconds
    assert error_for(report, wait=1.0).retry_after == 1.0


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '"text"', "[[]]", "[" * 100_000, "\0"])
@pytest.mark.parametrize("status", [400, 404, 500, 599])
def test_whatever_a_body_is_there_is_an_error(text: str, status: int) -> None:
    error = error_for(Report.of_reply(status, text), "{model}", {"temperature"})
    assert error.message


class TestWhatIsRemembered:
    def test_is_forgotten_after_a_time(self) -> None:
        now = [0.0]
        refused = RefusedOptions(lambda: now[0])
        refused.remember("m", ["temperature"])
        now[0] = REMEMBERED_SECONDS - 1
        refused.remember("m", ["stream_options"])
        assert refused.of("m") == {"temperature", "stream_options"}
        now[0] = REMEMBERED_SECONDS
        assert refused.of("m") == {"stream_options"}
        assert refused.of("other") == set()

    def test_is_bounded(self) -> None:
        refused = RefusedOptions()
        for number in range(MAX_MODELS + 1):
            refused.remember("old", ["a"])
            refused.remember(f"m{number}", ["a"])
        assert refused.of("old") == {"a"}
        assert refused.of("m0") == refused.of("m1") == set()
        assert refused.of(f"m{MAX_MODELS}") == {"a"}

    def test_of_both_names_of_an_option_is_kept_off(self) -> None:
        assert without({"max_tokens": 1}, {"max_tokens"}) == {"max_completion_tokens": 1}
        assert without({"max_tokens": 1}, RENAMED) == {}
        assert without({"a": 1}, RENAMED) == {"a": 1}
        both = {"max_tokens": 1, "max_completion_tokens": 2}
        assert without(both, {"max_tokens"}) == {"max_completion_tokens": 2}
