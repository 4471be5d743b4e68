"""One answer out of several requests: the model calls tools, and goes on with what they return.

`ToolRounds` is a `Stream` (`answer`) around the streams of the rounds. A round that ends with tool
calls is followed by another, whose messages contain the calls and their results; the text of all
rounds is one answer. After the last round with tools, the model is asked to answer without them:
its findings are paid for, and an answer from them is worth more than an error.
"""

import itertools
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

import msgspec

from ...answers.answer import Deltas, Stream
from ...answers.events import EventType
from ...errors import Interrupted, ToolRoundsUsed, UpstreamEmpty
from .executor import Call, Cancelled, ToolContext, ToolResult
from .registry import Tools, arguments_of

ID: Final = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)
NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9_-]", re.ASCII)
MAX_NAME_CHARS: Final = 64
PARAGRAPH: Final = "\n\n"
STOPPED: Final = "The answer was stopped before it was complete."

Write = Callable[[Deltas], bool]
WriteEvent = Callable[[EventType, dict[str, Any]], None]
Ended = Callable[[Exception | None], None]


class Function(Protocol):
    """The function that the model names, and its arguments as JSON."""

    name: str | None
    arguments: str | None


class WantedCall(Protocol):
    """A whole tool call, as the upstream sent it."""

    id: str | None
    extra: dict[str, Any]
    """Fields that only the upstream understands, and wants to hear again."""

    @property
    def function(self) -> Function | None: ...


class Round(Stream, Protocol):
    """A stream that may end with tool calls."""

    @property
    def tool_calls(self) -> Sequence[WantedCall]:
        """What the model calls. Empty where the answer was cut off (`length`, `content_filter`)."""

    @property
    def sent_back(self) -> dict[str, Any]:
        """The same of the message; `content`, if it is there, comes before its text."""


class RoundsCancellation:
    """Ends whatever an answer is waiting for: the current request, or tools.

    A `transport.Cancellation` serves one request, and is used up when that is cut off after its
    last word.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancel: Callable[[], None] | None = None
        self.cancelled = False

    def enter(self, cancel: Callable[[], None]) -> None:
        """Register what ends the next wait; does not wait itself.

        :raises Interrupted: the answer was stopped before.
        """
        with self._lock:
            self._cancel = cancel
            if self.cancelled:
                raise Interrupted(STOPPED)

    def cancel(self) -> None:
        """From any thread, any number of times."""
        with self._lock:
            self.cancelled = True
            cancel = self._cancel
        if cancel:
            cancel()


class ToolRounds:
    """A stream over all rounds of one answer.

    :param open_round: asks the upstream; gets the messages, and whether the model may call tools
        (else the request says `tool_choice: none`).
    :param messages: the history that the first round gets.
    :param cancellation: `open_round` enters its own into it, too.
    :param write_event: appends a `tool` event; called by whoever writes the pieces.
    :param rounds: how many may call tools.
    :raises ChatAppError: the upstream refuses the first round.
    """

    def __init__(
        self,
        open_round: Callable[[list[dict[str, Any]], bool], Round],
        messages: list[dict[str, Any]],
        tools: Tools,
        context: ToolContext,
        cancellation: RoundsCancellation,
        write_event: WriteEvent,
        rounds: int,
    ) -> None:
        self.finish_reason: str | None = None
        self._open_round = open_round
        self._messages = list(messages)
        self._tools = tools
        self._context = context
        self._cancellation = cancellation
        self._write_event = write_event
        self._rounds_left = rounds
        self._ids: set[str] = set()
        self._numbers = itertools.count(1)
        self._written = _Written()
        self._counted: dict[str, int] = {}
        self._sources: set[str] = set()
        self._round: Round | None = self._open()

    def copy(self, write: Write, ended: Ended) -> None:
        """As `Stream.copy`; tools run in the thread that calls `ended`."""
        if self._round is None:
            raise RuntimeError("The rounds were closed before they were read.")
        self._copy(self._round, write, ended)

    def usage(self, text: str) -> tuple[dict[str, int], str]:  # noqa: ARG002 - each round's own
        """The sum of all rounds, since each is paid for."""
        counted, sources = self._counted, self._sources
        if self._round:
            last, source = self._round.usage(self._written.text)
            counted, sources = _sum(counted, last), sources | {source}
        return counted, "provider" if sources == {"provider"} else "estimated"

    def close(self) -> None:
        """Close the round that is open."""
        if self._round:
            self._round.close()

    def _open(self) -> Round:
        self._rounds_left -= 1
        return self._open_round(self._messages, self._rounds_left >= 0)

    def _copy(self, stream: Round, write: Write, ended: Ended) -> None:
        stream.copy(
            lambda deltas: write(self._written.noted(deltas)),
            lambda fault: self._round_ended(stream, fault, write, ended),
        )

    def _round_ended(
        self, stream: Round, fault: Exception | None, write: Write, ended: Ended
    ) -> None:
        try:
            self.finish_reason = stream.finish_reason
            if isinstance(fault, UpstreamEmpty) and (self._written.any or self._ids):
                fault = None  # It has said or done something before.
            if fault is None and self.finish_reason == "stop" and stream.tool_calls:
                self.finish_reason = None
                following = self._after_tools(stream)
                self._copy(following, write, ended)
                return
        except Exception as error:
            fault = error
        ended(fault)

    def _after_tools(self, stream: Round) -> Round:
        """Run what the round calls, and open the next."""
        if self._rounds_left < 0:
            raise ToolRoundsUsed("The model kept calling tools. Ask again, or ask for less.")
        calls = [self._call(wanted) for wanted in stream.tool_calls]
        self._settle(stream)
        sent_back = stream.sent_back
        said = sent_back.get("content", "") + self._written.end_round()
        results = self._run(calls)
        asked = {"role": "assistant", "content": said or None}
        asked_for = {"tool_calls": [_as_sent(call) for call in calls]}
        self._messages.append(sent_back | asked | asked_for)
        self._messages += [_answered(result) for result in results]
        self._round = self._open()
        return self._round

    def _settle(self, stream: Round) -> None:
        """Count a round that has ended, and return its connection."""
        counted, source = stream.usage(self._written.text)
        self._counted = _sum(self._counted, counted)
        self._sources.add(source)
        self._round = None
        stream.close()

    def _run(self, calls: list[Call]) -> list[ToolResult]:
        run = self._tools.prepare(calls, self._context)
        self._cancellation.enter(run.cancel)
        for call in calls:
            about = {"id": call.id, "name": call.name, "arguments": _readable(call)}
            self._write_event(EventType.TOOL, about)
        try:
            return run.run(self._note)
        except Cancelled:
            raise Interrupted(STOPPED) from None

    def _note(self, result: ToolResult) -> None:
        about: dict[str, Any] = {"id": result.call.id, "name": result.call.name}
        outcome = {"result": result.result} if result.error is None else {"error": result.error}
        self._write_event(EventType.TOOL, about | outcome)

    def _call(self, wanted: WantedCall) -> Call:
        """A call without unpaired surrogates, with an id that is unique in this answer."""
        given, function = wanted.id or "", wanted.function
        if not ID.fullmatch(given) or given in self._ids:
            given = next(f"call_{n}" for n in self._numbers if f"call_{n}" not in self._ids)
        self._ids.add(given)
        name = NOT_IN_A_NAME.sub("_", (function and function.name) or "")[:MAX_NAME_CHARS]
        arguments = (function and function.arguments) or ""
        return Call(given, name or "unnamed", _whole(arguments), wanted.extra)


class _Written:
    """The text that the rounds have written."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._last = ""

    @property
    def text(self) -> str:
        """What the model has said in this round."""
        return "".join(self._pieces)

    @property
    def any(self) -> bool:
        """Whether a round has said anything."""
        return bool(self._last or self._pieces)

    def noted(self, deltas: Deltas) -> Iterator[tuple[EventType, str]]:
        """The same pieces; the text of another round begins with a paragraph of its own."""
        for kind, text in deltas:
            if kind is EventType.TEXT and text:
                begins = not self._pieces and self._last and not self._last.isspace()
                if begins and not text[0].isspace():
                    yield kind, PARAGRAPH
                self._pieces.append(text)
            yield kind, text

    def end_round(self) -> str:
        """What the model has said in the round that is over."""
        text = self.text
        self._last = text[-1:] or self._last
        self._pieces = []
        return text


def _as_sent(call: Call) -> dict[str, Any]:
    """A call as the next request repeats it; many servers' templates fail on invalid JSON."""
    arguments = call.arguments if isinstance(_readable(call), dict) else "{}"
    function = {"name": call.name, "arguments": arguments.strip() or "{}"}
    whole = call.extra.get("function", {}) | function
    return call.extra | {"id": call.id, "type": "function", "function": whole}


def _answered(result: ToolResult) -> dict[str, Any]:
    content = result.content if result.error is None else f"Error: {result.error}"
    return {"role": "tool", "tool_call_id": result.call.id, "content": content}


def _readable(call: Call) -> Any:
    """The arguments as an object, or as a string if they are none."""
    try:
        return arguments_of(call)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return call.arguments


def _whole(text: str) -> str:
    """The text without unpaired surrogates, which can't be sent."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in (*one, *other)}
