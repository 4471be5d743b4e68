"""What an OpenAI-compatible server streams, decoded; no sockets.

The base is OpenAI's chat completion chunk (`chunk_types`). What does not fit, or says nothing that
way, is read by `odd_chunks`.
"""

import re
from typing import Any, Final

import msgspec

from ..answers.events import EventType
from ..answers.text.think_tags import ThinkTags
from ..errors import UpstreamError
from .advice import reported
from .choices import FirstChoice
from .chunk_types import Chunk, Usage, decode, decode_known
from .finish_reasons import finish_reason
from .loose_values import MAX_COUNT, count_from
from .odd_chunks import OddChunk, read_odd_chunk
from .sent_back import SentBack
from .tool_calls import ToolCall, ToolCalls

Delta = tuple[EventType, str]


_TEXT, _REASONING = EventType.TEXT, EventType.REASONING
NUL: Final = rb"\u0000"
"""As JSON has it. No text of PostgreSQL's may have it, and all are to read the same."""
_HIGH_SURROGATE_AT_END: Final = re.compile("[\ud800-\udbff]\\Z")


class ChunkReader:
    """Collects one answer from the data of its chunks.

    Most chunks are only decoded. `_careful` says that the next one can't be: the answer has not
    begun, is among its reasoning, or was said to be over.

    :param think_tags: as the setting has it.
    :param keep: whether what the server wants to hear again is wanted.
    """

    __slots__ = (
        "_careful",
        "_choice",
        "_decode",
        "_half",
        "_said",
        "_sent_back",
        "_tail_of_text",
        "_thinking",
        "calls",
        "doubted",
        "finish_reason",
        "unread",
        "usage",
    )

    def __init__(self, think_tags: str = "auto", keep: bool = False) -> None:
        self.finish_reason: str | None = None
        self.doubted = False
        """Whether text has followed a finish reason: then only the stream's end is one."""
        self.usage: dict[str, int] | None = None
        self.calls = ToolCalls()
        self.unread: bytes | None = None
        """What came that is no chunk."""
        self._tail_of_text = False
        """Whether the reason came along with text, as one does that each chunk has."""
        self._choice = FirstChoice()
        self._half: dict[EventType, str] = {}
        self._said = False
        self._thinking = None if think_tags == "off" else ThinkTags(think_tags == "opened", keep)
        self._sent_back = SentBack() if keep else None
        self._decode = decode_known if keep else decode
        self._careful = True

    @property
    def ended(self) -> bool:
        """Whether the answer is whole for certain, whatever comes then."""
        return self.finish_reason is not None and self._begun and not self.doubted

    @property
    def may_go_on(self) -> bool:
        """Whether the finish reason may be one of those that mean nothing."""
        return self._tail_of_text

    @property
    def empty(self) -> bool:
        """Whether neither text nor reasoning nor a tool call has come."""
        return not self._begun

    @property
    def tool_calls(self) -> dict[int, ToolCall]:
        return self.calls.whole

    @property
    def sent_back(self) -> dict[str, Any]:
        """The message's own fields for the next request; `content`: what text begins with."""
        if self._sent_back is None:
            return {}
        raw = self._thinking.raw if self._thinking else ""
        return self._sent_back.fields() | ({"content": raw} if raw else {})

    @property
    def _begun(self) -> bool:
        return self._said or bool(self.calls.whole)

    def read(self, data: bytes, deltas: list[Delta]) -> None:
        """Add the pieces of one chunk to those that came before it.

        :raises UpstreamInvalid: when this is no chunk.
        :raises ChatAppError: what the upstream reports instead of a chunk.
        """
        try:
            chunk = self._decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            chunk = None
        if chunk is None or self._careful or NUL in data:
            self._read_carefully(chunk, data, deltas)
        else:
            self._accept(chunk, data, deltas)

    def rest(self) -> list[Delta]:
        """What a cut character, or half a tag, leaves when the stream ends in its middle."""
        left: list[Delta] = []
        for index, data in [] if self.finish_reason else self._choice.rest():
            self._choice.index = index
            if odd := read_odd_chunk(data, index):
                self._weigh(odd, data, left)
        halves, self._half = self._half, {}
        for kind in halves:
            self._tell(kind, "\N{REPLACEMENT CHARACTER}", left)
        if self._thinking and not self._thinking.over:
            reasoning, text = self._thinking.rest()
            left += [(_REASONING, reasoning)] if reasoning else []
            left += [(_TEXT, text)] if text else []
        self._said = self._said or any(text.strip() for _, text in left)
        return left

    def _accept(self, chunk: Chunk, data: bytes, deltas: list[Delta]) -> None:
        if chunk.error or not chunk.choices:
            self._accept_without_choice(chunk, data, deltas)
            return
        choice = chunk.choices[0]
        delta = choice.delta
        if delta is None or (choice.index or 0) != self._choice.index:
            self._read_again(data, deltas)
            return
        if reasoning := delta.reasoning_content or delta.reasoning:
            deltas.append((_REASONING, reasoning))
            if self._sent_back:
                key = "reasoning_content" if delta.reasoning_content else "reasoning"
                self._sent_back.add_reasoning(key, reasoning)
        if text := delta.content or delta.refusal:
            deltas.append((_TEXT, text))
        if calls := delta.tool_calls or delta.function_call:
            self.calls.take_delta(delta.tool_calls, delta.function_call)
        if choice.finish_reason:
            self._finish(choice.finish_reason, bool(text or reasoning or calls))
        if chunk.usage:
            self.usage = tokens(chunk.usage) or self.usage

    def _accept_without_choice(self, chunk: Chunk, data: bytes, deltas: list[Delta]) -> None:
        if chunk.error:
            raise reported(chunk.error)
        if chunk.usage:
            self.usage = tokens(chunk.usage) or self.usage
        else:
            self._read_again(data, deltas)

    def _read_again(self, data: bytes, deltas: list[Delta]) -> None:
        """Look for more than what the decoder has found."""
        if odd := read_odd_chunk(data, self._choice.index):
            self._accept_odd(odd, deltas)

    def _accept_odd(self, odd: OddChunk, deltas: list[Delta]) -> None:
        if odd.error:
            raise reported(odd.error)
        if odd.usage:
            self.usage = tokens(Usage(**odd.usage)) or self.usage
        if odd.choice is None or odd.choice != self._choice.index:
            return
        if odd.reasoning:
            deltas.append((_REASONING, odd.reasoning))
        if odd.text:
            deltas.append((_TEXT, odd.text))
        self._keep(odd)
        self.calls.take_delta(odd.tool_calls, odd.function_call)
        if odd.finish_reason:
            self._finish(odd.finish_reason, bool(odd.text or odd.reasoning or odd.tool_calls))

    def _keep(self, odd: OddChunk) -> None:
        if self._sent_back:
            if odd.reasoning:
                self._sent_back.add_reasoning(odd.reasoning_key, odd.reasoning)
            self._sent_back.add(odd.extra or {})

    def _read_carefully(self, chunk: Chunk | None, data: bytes, deltas: list[Delta]) -> None:
        what = chunk or read_odd_chunk(data, self._choice.index)
        if what is None:
            self.unread = self.unread or data
        elif (index := self._index_in(what)) is None:
            self._weigh(what, data, deltas)
        else:
            for each_index, each in self._choice.admitted(index, data):
                self._choice.index = each_index
                admitted = what if each is data else read_odd_chunk(each, each_index)
                if admitted:
                    self._weigh(admitted, each, deltas)

    def _index_in(self, what: Chunk | OddChunk) -> int | None:
        """The index of the choice to read; None: there is no choice."""
        if isinstance(what, OddChunk):
            return what.choice
        indices = [choice.index or 0 for choice in what.choices or ()]
        known = self._choice.index
        return known if known in indices else next(iter(indices), None)

    def _weigh(self, what: Chunk | OddChunk, data: bytes, deltas: list[Delta]) -> None:
        """Take a chunk in, and what it says of the finish reason before it."""
        found: list[Delta] = []
        before, self.finish_reason = self.finish_reason, None
        fragments = self.calls.fragments
        try:
            if isinstance(what, OddChunk):
                self._accept_odd(what, found)
            else:
                self._accept(what, data, found)
        finally:
            for kind, text in found:
                self._tell(kind, text, deltas)
            more = any(text.strip() for _, text in found)
            self._said = self._said or more
            if before:
                self._doubt(before, more or self.calls.fragments > fragments)
            self._careful = not self._certain

    @property
    def _certain(self) -> bool:
        """Whether the next chunk can be taken as it is."""
        return not (
            self._half
            or not self._said
            or not self._choice.settled
            or self.finish_reason
            or (self._thinking and not self._thinking.over)
        )

    def _doubt(self, before: str, more: bool) -> None:
        """Weigh the reason that was told before this chunk, and perhaps now another."""
        if more:
            self.doubted = True
        if self.finish_reason is None or (before != "stop" and not more):
            self.finish_reason = before

    def _tell(self, kind: EventType, text: str, deltas: list[Delta]) -> None:
        """Pass on a piece in whole characters, and the reasoning in it as such."""
        text = self._mend(kind, text)
        if kind is _TEXT and self._thinking and not self._thinking.over:
            reasoning, text = self._thinking.split(text)
            if reasoning:
                deltas.append((_REASONING, reasoning))
        if text:
            deltas.append((kind, text))

    def _mend(self, kind: EventType, text: str) -> str:
        """Join a surrogate pair that was cut between two chunks, and replace NUL."""
        text = self._half.pop(kind, "") + text
        if _HIGH_SURROGATE_AT_END.search(text):
            self._half[kind], text = text[-1], text[:-1]
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return text.replace("\0", "\N{REPLACEMENT CHARACTER}")

    def _finish(self, told: str, with_text: bool) -> None:
        reason = finish_reason(told)
        if reason == "fault":
            raise UpstreamError(
                "The model broke the answer off. Ask again.", seen=f"finish reason {told!r}"
            )
        if reason:
            self._tail_of_text = self._tail_of_text or with_text
            self.finish_reason = reason
            self._careful = True


def tokens(usage: Usage) -> dict[str, int] | None:
    """Usage in our three fields, within bounds; None: it says nothing."""
    prompt = count_from(usage.prompt_tokens) or 0
    completion = count_from(usage.completion_tokens) or 0
    total = max(count_from(usage.total_tokens) or 0, prompt + completion)
    if not total:
        return None
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": min(total, int(MAX_COUNT)),
    }
