"""Each quirk that a server was seen with is read as it was meant, whoever reads it."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from chatapp.answers.events import EventType
from chatapp.errors import ChatAppError
from chatapp.upstream import poller
from chatapp.upstream.completion_stream import CompletionStream
from chatapp.upstream.transport import Cancellation
from tests.support import upstream_client
from tests.support.dialects import Dialect, dialects
from tests.support.event_loop import until
from tests.support.upstream import FakeUpstream
from tests.support.upstream_client import HISTORY, Connect

connect = upstream_client.connect
Heard = tuple[list[tuple[EventType, str]], Exception | None]


def read_plainly(stream: CompletionStream) -> Heard:
    """As a thread of its own does."""
    heard: list[tuple[EventType, str]] = []
    try:
        heard.extend(stream)
    except ChatAppError as fault:
        return heard, fault
    return heard, None


def read_in_event_loop(stream: CompletionStream) -> Heard:
    """As gevent's hub does."""
    heard: list[tuple[EventType, str]] = []
    ends: list[Exception | None] = []
    stream.copy(lambda deltas: heard.extend(deltas) or True, ends.append)
    until(lambda: ends)
    return heard, ends[0]


def told(stream: CompletionStream, heard: Heard) -> dict[str, Any]:
    """What came out, in the corpus's terms."""
    deltas, fault = heard
    if fault is not None and not isinstance(fault, ChatAppError):
        raise fault
    by_kind = {kind: "".join(text for k, text in deltas if k is kind) for kind in EventType}
    return {
        "text": by_kind[EventType.TEXT],
        "reasoning": by_kind[EventType.REASONING],
        "usage": stream.usage("")[0],
        "tool_calls": [call_told(call) for call in stream.tool_calls],
    } | ({"code": fault.code} if fault else {"finish_reason": stream.finish_reason})


def call_told(call: Any) -> dict[str, Any]:
    return {"id": call.id, "name": call.function.name, "arguments": call.function.arguments}


@pytest.mark.parametrize("dialect", dialects("streams"), ids=str)
@pytest.mark.parametrize(
    ("read_body", "read"),
    [(None, read_plainly), (poller.read_body, read_in_event_loop)],
    ids=["plain", "event loop"],
)
def test_a_stream_is_read_as_it_was_meant(
    connect: Connect,
    upstream: FakeUpstream,
    dialect: Dialect,
    read_body: Any,
    read: Callable[[CompletionStream], Heard],
) -> None:
    upstream.script = dialect
    way = connect(read_body=lambda: read_body, **dialect.ask.settings)
    stream = way.open("m", HISTORY, dialect.ask.options, Cancellation())
    try:
        found = told(stream, read(stream))
    finally:
        stream.close()
    right = {"text": "", "reasoning": ""} | dialect.answer
    assert {key: found.get(key) for key in right} == right
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("dialect", dialects("streams") + dialects("refusals"), ids=str)
def test_a_quirk_says_where_it_was_reported(dialect: Dialect) -> None:
    assert dialect.server
    assert dialect.about.endswith(".")
    assert re.fullmatch(r"([\w.-]+/[\w.-]+#[0-9]+)?", dialect.report)
    ends = {"code", "finish_reason"} & dialect.answer.keys()
    assert len(ends) == 1
