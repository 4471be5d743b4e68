"""An answer on its way from the upstream: its bytes in, its pieces out."""

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Final

import httpx2

from ..answers.text.tokens import estimated_tokens, estimated_usage
from ..errors import (
    SEEN_CHARS,
    ChatAppError,
    UpstreamCut,
    UpstreamEmpty,
    UpstreamInvalid,
    UpstreamTimeout,
)
from .chunks import ChunkReader, Delta
from .scrubbing import without_secrets
from .sse_decoder import Decoder, MessageTooLarge
from .tool_calls import ToolCall
from .transport import Cancellation, RawBody
from .whole_reply import WholeReply, is_whole_reply

TAIL_SECONDS: Final = 1.0
"""How long an upstream may take, after the answer's last word, to send usage and end the stream."""
DOUBTFUL_TAIL_SECONDS: Final = 10.0
"""The same where the word and the reason came together: some servers say `stop` with each word."""

DONE: Final = b"[DONE]"

Write = Callable[[Iterable[Delta]], bool]
Ended = Callable[[Exception | None], None]
ReadBody = Callable[[RawBody, Callable[[bytes], float], Ended, float], None]
"""Hands a body's bytes to a function, which tells for how many seconds it waits for more. Calls the
second when that is 0, the body ends, or something raises; the number is for the first bytes."""


class CompletionStream:
    """A synchronous generator over the SDK's open stream: iterate for the pieces of the answer.

    Ends normally only when the upstream has said why it stopped; raises `ChatAppError` otherwise.

    :param response: accepted by the upstream, its body unread.
    :param cancellation: closes its connection.
    :param prompt_tokens: an estimate, for who reports no usage.
    :param read_body: passes the bytes on in `copy`; None: the calling thread.
    :param silence: seconds that `read_body` waits for bytes.
    :param reader: of the chunks.
    :param wordless: seconds for which bytes may come that say nothing of the answer.
    :param keys: that must not get into a report.
    """

    __slots__ = (
        "_body",
        "_cancellation",
        "_complete",
        "_decoder",
        "_ended",
        "_keys",
        "_prompt_tokens",
        "_read_body",
        "_reader",
        "_silence",
        "_tail",
        "_tail_until",
        "_valid",
        "_waiting_since",
        "_wordless",
        "_write",
        "finish_reason",
    )

    def __init__(
        self,
        response: httpx2.Response,
        cancellation: Cancellation,
        prompt_tokens: int,
        read_body: ReadBody | None,
        silence: float,
        reader: ChunkReader | None = None,
        wordless: float = math.inf,
        keys: Collection[str] = (),
    ) -> None:
        self.finish_reason: str | None = None
        """`stop`, `length` or `content_filter`; None: not ended yet."""
        # The response would keep the request with it, and so the whole history.
        self._body: RawBody = response.extensions["raw_body"]
        self._cancellation = cancellation
        self._prompt_tokens = prompt_tokens
        self._read_body = read_body
        self._silence = silence
        self._reader = reader or ChunkReader()
        self._decoder: Decoder | WholeReply | None = None
        self._valid = False
        self._complete = False
        self._wordless = wordless
        self._keys = keys
        self._waiting_since = 0.0
        """Monotonic seconds; 0: the last bytes said something."""
        self._tail: threading.Timer | None = None
        self._tail_until = 0.0
        """Monotonic seconds up to which the end may take; 0: it has not begun."""
        self._write: Write | None = None
        self._ended: Ended | None = None

    def __iter__(self) -> Iterator[Delta]:
        try:
            yield from self._deltas()
        except ChatAppError as error:
            without_secrets(error, self._keys)
            raise

    def _deltas(self) -> Iterator[Delta]:
        try:
            for block in self._body:
                deltas: list[Delta] = []
                try:
                    self._read(block, deltas)
                except ChatAppError:
                    yield from deltas
                    raise
                yield from deltas
                if self._complete:
                    break
                if self._reader.finish_reason:
                    self._bound_tail(self._patience())
        except httpx2.HTTPError as error:
            self._break_off(error)
        yield from self._rest()

    def copy(self, write: Write, ended: Ended) -> None:
        """Hand the pieces to `write` as they come, until the end or until it says no.

        Then `ended` is called with what was raised: here, or later if the event loop does it.
        """
        if self._read_body is not None:
            self._write, self._ended = write, ended
            self._read_body(self._body, self._take, self._conclude, self._silence)
            return
        fault: Exception | None = None
        try:
            for delta in self:
                if not write((delta,)):
                    self.finish_reason = "length"
                    break
        except Exception as error:
            fault = error
        ended(fault)

    def _take(self, block: bytes) -> float:
        """Write these bytes' pieces. Returns for how many seconds to wait for more."""
        assert self._write  # noqa: S101 # for mypy
        deltas: list[Delta] = []
        fault: ChatAppError | None = None
        try:
            self._read(block, deltas)
        except ChatAppError as error:
            fault = error
        if not self._write(deltas):
            self.finish_reason = "length"
            return 0.0
        if fault:
            raise fault
        if self._complete:
            return 0.0
        return self._patience() if self._reader.finish_reason else self._silence

    def _conclude(self, fault: Exception | None) -> None:
        """Write what is left when the bytes have ended, and tell what went wrong, in our terms."""
        write, ended = self._write, self._ended
        self._write = self._ended = None  # They refer to this stream.
        assert write is not None  # noqa: S101 # for mypy
        assert ended is not None  # noqa: S101
        try:
            if isinstance(fault, httpx2.HTTPError):
                self._break_off(fault)
                fault = None
            if not fault and not self.finish_reason and not write(self._rest()):
                self.finish_reason = "length"
        except Exception as error:
            fault = error
        if isinstance(fault, ChatAppError):
            without_secrets(fault, self._keys)
        ended(fault)

    def _read(self, block: bytes, deltas: list[Delta]) -> None:
        """Add the pieces that these bytes complete, up to the end of the stream or to a fault."""
        if self._decoder is None:
            self._decoder = WholeReply() if is_whole_reply(block) else Decoder()
        try:
            for data in self._decoder.feed_data(block):
                if data.startswith(DONE):
                    self._complete = True
                    break
                self._reader.read(data, deltas)
                self._valid = True
        except MessageTooLarge as error:
            if not self._reader.ended:
                raise UpstreamInvalid(
                    "The model's server sent too much at once. Try again.", seen=str(error)
                ) from None
            self._decoder = Decoder()
        except RecursionError:
            raise UpstreamInvalid(
                "The model's server sent something unreadable.", seen="JSON that is nested too deep"
            ) from None
        except ChatAppError:
            if not self._reader.ended:  # else the answer is whole, whatever came behind it
                raise
        if deltas:
            self._waiting_since = 0.0
        else:
            self._note_wordless()

    def _patience(self) -> float:
        """Seconds for which more is waited for where a finish reason has been told."""
        if not self._reader.ended:
            return self._silence
        tail = DOUBTFUL_TAIL_SECONDS if self._reader.may_go_on else TAIL_SECONDS
        now = time.monotonic()
        self._tail_until = self._tail_until or now + tail
        # What comes behind the end must not put it off for ever.
        return tail if now <= self._tail_until else 0.0

    def _note_wordless(self) -> None:
        """:raises UpstreamTimeout: bytes have said nothing for too long, as those of comments."""
        now = time.monotonic()
        self._waiting_since = self._waiting_since or now
        if now - self._waiting_since > self._wordless and not self._reader.ended:
            seen = f"nothing of an answer for {self._wordless:g} s, though bytes came"
            raise UpstreamTimeout("The model said nothing for too long. Ask again.", seen=seen)

    def _break_off(self, error: httpx2.HTTPError) -> None:
        """An answer whose end was told is whole, whatever came of the connection then."""
        if self._reader.ended:
            return
        seen = repr(error)
        if isinstance(error, httpx2.TimeoutException):
            silent = "The model fell silent for too long. Ask again."
            raise UpstreamTimeout(silent, seen=seen) from None
        raise UpstreamCut("The connection to the model broke. Ask again.", seen=seen) from None

    def _rest(self) -> Iterator[Delta]:
        deltas: list[Delta] = []
        if self._decoder and not self._complete:
            try:
                self._read_rest(self._decoder, deltas)
            except ChatAppError:
                if not self._reader.ended:
                    raise
        yield from deltas
        yield from self._reader.rest()
        self.finish_reason = self._reader.finish_reason
        if self.finish_reason is None:
            raise self._endless()
        if self.finish_reason == "stop" and self._reader.empty:
            raise UpstreamEmpty(
                "The model has said nothing. Ask again.", seen="the stream ended without a word"
            )

    def _read_rest(self, decoder: Decoder | WholeReply, deltas: list[Delta]) -> None:
        for message in decoder.flush():
            if not message.data.startswith(DONE):
                self._reader.read(message.data, deltas)
                self._valid = True
        if isinstance(decoder, WholeReply):
            self._valid = not self._reader.empty
            if self._valid:
                self._reader.finish_reason = self._reader.finish_reason or "stop"

    def _endless(self) -> ChatAppError:
        if unread := self._reader.unread:
            return UpstreamInvalid(
                "The model's server sent something that is not an answer. Try again.",
                seen=f"no chunk: {unread[:SEEN_CHARS]!r}",
            )
        if self._valid:
            return UpstreamCut(
                "The answer broke off before its end. Ask again.",
                seen="the stream ended without a finish reason",
            )
        return UpstreamInvalid(
            "The model's server sent no answer. Try again, or tell whoever runs this site.",
            seen="the stream ended without a chunk",
        )

    @property
    def tool_calls(self) -> list[ToolCall]:
        """What the model calls, complete at the end of a stream that was not cut off."""
        if self.finish_reason != "stop":
            return []
        return [call for _, call in sorted(self._reader.tool_calls.items())]

    @property
    def sent_back(self) -> dict[str, Any]:
        """Fields of the message that its server wants to hear again when tools have run.

        `content`, where it is among them, is what stood before the text.
        """
        return self._reader.sent_back

    def usage(self, text: str) -> tuple[dict[str, int], str]:
        """Tokens as the provider counted them, else estimated."""
        if self._reader.usage:
            return self._reader.usage, "provider"
        return estimated_usage(self._prompt_tokens, estimated_tokens([text])), "estimated"

    def close(self) -> None:
        """Give the connection back, or close it when the answer did not reach its end."""
        if self._tail:
            self._tail.cancel()
        if self._complete and not self._cancellation.cancelled:
            # Read to its end, the response leaves a connection that can be used again.
            self._body.drain(TAIL_SECONDS)
        self._body.close()

    def _bound_tail(self, seconds: float) -> None:
        if self._tail:
            self._tail.cancel()
            self._tail = None
        if seconds < self._silence:
            self._tail = threading.Timer(seconds, self._cancellation.cancel)
            self._tail.daemon = True
            self._tail.start()
