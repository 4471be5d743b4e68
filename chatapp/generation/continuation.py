"""Continues an answer that another worker began: the model gets its own text so far.

OpenAI's API has no way to say "continue this message"; servers that can each have their own.
"""

from collections.abc import Callable
from typing import Any, Final

from ..answers.answer import Deltas, Stream
from ..answers.events import EventType
from ..errors import ChatAppError, Interrupted, UpstreamEmpty

STYLES: Final[dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "plain": ({}, {}),
    "vllm": ({}, {"add_generation_prompt": False, "continue_final_message": True}),
    "deepseek": ({"prefix": True}, {}),
}
"""For each style: what it adds to the assistant's message, and what to the request. llama.cpp and
several others continue a last assistant message without either."""
MIN_OVERLAP_CHARS: Final = 12
"""Characters. A shorter repetition at the seam may be intended."""
MAX_OVERLAP_CHARS: Final = 400


def prefilled(
    messages: list[dict[str, Any]], text: str, style: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The history with the answer's beginning, and what the request needs beside it."""
    if not text.strip():
        return messages, {}
    mark, extra = STYLES[style]
    return [*messages, {"role": "assistant", "content": text} | mark], extra


class Continuation:
    """A `Stream` that leaves out what the answer already says.

    :param stream: the model's continuation.
    :param text: of the answer so far.
    """

    def __init__(self, stream: Stream, text: str) -> None:
        self._stream = stream
        self._seam = Seam(text)
        self._begun = bool(text)

    @property
    def finish_reason(self) -> str | None:
        return self._stream.finish_reason

    @finish_reason.setter
    def finish_reason(self, reason: str | None) -> None:
        self._stream.finish_reason = reason

    def copy(
        self,
        write: Callable[[Deltas], bool],
        ended: Callable[[Exception | None], None],
    ) -> None:
        """As `Stream.copy`."""
        full = False

        def join(pieces: Deltas) -> bool:
            nonlocal full
            full = not write(self._joined(pieces))
            return not full

        def finish(fault: Exception | None) -> None:
            if (rest := self._seam.rest()) and not full:
                write(((EventType.TEXT, rest),))
            # Nothing more was to be said.
            ended(None if self._begun and isinstance(fault, UpstreamEmpty) else fault)

        self._stream.copy(join, finish)

    def _joined(self, pieces: Deltas) -> Deltas:
        for kind, text in pieces:
            new = self._seam.feed(text) if kind is EventType.TEXT else text
            if new:
                yield kind, new

    def usage(self, text: str) -> tuple[dict[str, int], str]:
        return self._stream.usage(text)

    def close(self) -> None:
        self._stream.close()


class Seam:
    """Where a continuation meets the text before it.

    Some servers repeat the text that they were given, and some models begin with their last words.
    What may be a repetition is held back until that is known.
    """

    def __init__(self, before: str) -> None:
        self._before = before
        self._held = ""
        self._open = bool(before)

    def feed(self, text: str) -> str:
        """The part of the text so far that is certainly new."""
        if not self._open:
            return text
        self._held += text
        if self._before.startswith(self._held) or self._may_overlap():
            return ""
        return self.rest()

    def rest(self) -> str:
        """The held rest, without a repetition; ends the seam."""
        held, self._held, self._open = self._held, "", False
        if held.startswith(self._before):
            return held[len(self._before) :]
        if self._before.startswith(held) and len(held) >= MIN_OVERLAP_CHARS:
            return ""
        return held[self._overlap(held) :]

    def _may_overlap(self) -> bool:
        """Whether the held text may still become a repetition of the last words."""
        last_words = self._before[-MAX_OVERLAP_CHARS:]
        return len(self._held) < MAX_OVERLAP_CHARS and self._held in last_words

    def _overlap(self, held: str) -> int:
        """How many of its first characters repeat the end of the earlier text."""
        largest = min(len(held), len(self._before), MAX_OVERLAP_CHARS)
        for size in range(largest, MIN_OVERLAP_CHARS - 1, -1):
            if self._before.endswith(held[:size]):
                return size
        return 0


def interrupted(error: ChatAppError) -> Interrupted:
    """The error of an answer that could not be continued."""
    return Interrupted(
        f"The answer was interrupted and could not be continued. {error.message}",
        retry_after=error.retry_after,
        seen=error.seen,
    )
