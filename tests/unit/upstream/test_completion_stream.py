"""The pieces of an answer are handed on as they came: together what came together, all of it."""

import json
import threading
from collections.abc import Callable, Iterable

import httpx2
import pytest

from chatapp.answers.events import EventType
from chatapp.errors import ChatAppError, UpstreamCut, UpstreamError
from chatapp.settings import Settings
from chatapp.upstream import completion_stream
from chatapp.upstream.chunks import Delta
from chatapp.upstream.client import Upstream
from chatapp.upstream.completion_stream import (
    DOUBTFUL_TAIL_SECONDS,
    TAIL_SECONDS,
    CompletionStream,
    Ended,
)
from chatapp.upstream.transport import Cancellation, RawBody, StockTransport
from tests.support.upstream import Call, FakeUpstream
from tests.support.upstream_client import NoLocalModel, answer_of

TEXT = EventType.TEXT
DONE = b"data: [DONE]\n\n"
SILENCE = 60.0


def told(**choice: object) -> bytes:
    return b"data: %b\n\n" % json.dumps({"choices": [choice]}).encode()


def said(text: str) -> bytes:
    return told(delta={"content": text})


STOP = told(delta={}, finish_reason="stop")


class Blocks(RawBody):
    """A body that comes in these blocks."""

    def __init__(self, *blocks: bytes) -> None:
        self.blocks = list(blocks)

    def read(self) -> bytes:
        return self.blocks.pop(0) if self.blocks else b""

    def drain(self, seconds: float) -> bool:
        raise NotImplementedError


def by_pump(body: RawBody, take: Callable[[bytes], float], ended: Ended, patience: float) -> None:
    try:
        while patience and (block := body.read()):
            patience = take(block)
    except ChatAppError as fault:
        ended(fault)
    else:
        ended(None)


def waits(*blocks: bytes) -> list[float]:
    """For how many seconds more is waited for after each of these."""
    waited: list[float] = []

    def read_body(body: RawBody, take: Callable[[bytes], float], ended: Ended, _: float) -> None:
        while block := body.read():
            waited.append(take(block))
        ended(None)

    response = httpx2.Response(200, extensions={"raw_body": Blocks(*blocks)})
    stream = CompletionStream(response, Cancellation(), 1, read_body, SILENCE)
    stream.copy(lambda deltas: bool(list(deltas)) or True, lambda _: None)
    return waited


class Copy:
    """What one copied stream has written, how it ended, and what it left unread."""

    def __init__(self, *blocks: bytes, room: int = 100) -> None:
        self.writes: list[list[Delta]] = []
        self.ends: list[Exception | None] = []
        self.room = room
        body = Blocks(*blocks)
        response = httpx2.Response(200, extensions={"raw_body": body})
        self.stream = CompletionStream(response, Cancellation(), 1, by_pump, 60.0)
        self.stream.copy(self.write, self.ends.append)
        self.unread = body.blocks

    def write(self, pieces: Iterable[Delta]) -> bool:
        self.writes.append([])
        for piece in pieces:
            self.writes[-1].append(piece)
            self.room -= 1
            if not self.room:
                return False
        return True

    @property
    def written(self) -> list[Delta]:
        return [piece for pieces in self.writes for piece in pieces]


def test_what_came_together_is_written_together() -> None:
    """One write, one waking of the readers, however many tokens a full core has let pile up."""
    copy = Copy(said("a") + said("b") + said("c"), said("d"), STOP + DONE)
    assert copy.writes[:2] == [[(TEXT, "a"), (TEXT, "b"), (TEXT, "c")], [(TEXT, "d")]]
    assert (len(copy.written), copy.ends, copy.stream.finish_reason) == (4, [None], "stop")


def test_what_came_before_a_fault_in_the_same_bytes_is_written() -> None:
    copy = Copy(said("a") + b'data: {"error":{"message":"x"}}\n\n' + said("b"))
    assert copy.written == [(TEXT, "a")]
    assert [type(fault) for fault in copy.ends] == [UpstreamError]


def test_what_comes_after_the_last_piece_that_is_allowed_is_not_looked_at() -> None:
    """Not even a fault that came with it."""
    copy = Copy(said("a") + b'data: {"error":{"message":"x"}}\n\n', room=1)
    assert (copy.written, copy.ends, copy.stream.finish_reason) == ([(TEXT, "a")], [None], "length")


@pytest.mark.parametrize("room", [1, 2, 3])
def test_an_answer_as_long_as_allowed_is_read_no_further(room: int) -> None:
    copy = Copy(said("a") + said("b"), said("c"), said("d"), STOP + DONE, room=room)
    assert copy.written == [(TEXT, text) for text in "abc"[:room]]
    assert (copy.ends, copy.stream.finish_reason) == ([None], "length")
    assert said("d") in copy.unread


def test_nothing_after_the_end_is_read() -> None:
    copy = Copy(said("a") + STOP + DONE + said("b"), said("c"))
    assert copy.written == [(TEXT, "a")]
    assert (copy.ends, copy.unread) == ([None], [said("c")])


def said_with_reason(text: str) -> bytes:
    return told(delta={"content": text}, finish_reason="stop")


def test_an_end_that_came_alone_is_waited_at_for_a_moment() -> None:
    assert waits(said("a"), STOP) == [SILENCE, TAIL_SECONDS]


def test_a_reason_that_came_with_a_text_may_mean_nothing() -> None:
    """And once another text has followed, it does mean nothing: the stream's end is waited for."""
    waited = waits(said_with_reason("a"), STOP, said_with_reason("b"), STOP)
    assert waited == [DOUBTFUL_TAIL_SECONDS, DOUBTFUL_TAIL_SECONDS, SILENCE, SILENCE]


def test_a_reason_before_the_first_word_is_none() -> None:
    assert waits(STOP, said("a"), STOP) == [SILENCE, SILENCE, SILENCE]


def test_a_text_that_follows_a_reason_belongs_to_the_answer() -> None:
    copy = Copy(said_with_reason("a"), said_with_reason("b"), DONE)
    assert "".join(text for _, text in copy.written) == "ab"
    assert (copy.ends, copy.stream.finish_reason) == ([None], "stop")


def test_a_reason_that_came_with_each_word_does_not_make_a_cut_answer_whole() -> None:
    class Broken(Blocks):
        def read(self) -> bytes:
            if not self.blocks:
                raise httpx2.ReadError("the wire was cut")
            return super().read()

    body = Broken(said_with_reason("a"), said_with_reason("b"))
    response = httpx2.Response(200, extensions={"raw_body": body})
    stream = CompletionStream(response, Cancellation(), 1, None, SILENCE)
    with pytest.raises(UpstreamCut):
        list(stream)


@pytest.mark.parametrize(
    "behind",
    [
        b'data: {"error":{"message":"x"}}\n\n',
        b'data: {"choices":[{"delta":{"con\n\n',
        b"data: garbage\n\n",
        told(delta={}, finish_reason="error"),
        b'data: {"usage":[{"prompt_tokens":"many"}]}\n\n',
    ],
    ids=["error", "broken", "garbage", "fault", "usage"],
)
@pytest.mark.parametrize("together", [False, True])
def test_what_comes_behind_the_end_never_makes_a_whole_answer_a_failed_one(
    behind: bytes, together: bool
) -> None:
    blocks = [said("a"), STOP + behind] if together else [said("a"), STOP, behind]
    copy = Copy(*blocks)
    assert (copy.written, copy.ends) == ([(TEXT, "a")], [None])
    assert copy.stream.finish_reason == "stop"
    response = httpx2.Response(200, extensions={"raw_body": Blocks(*blocks)})
    stream = CompletionStream(response, Cancellation(), 1, None, SILENCE)
    assert (list(stream), stream.finish_reason) == ([(TEXT, "a")], "stop")


def test_not_even_a_line_without_an_end_does() -> None:
    copy = Copy(said("a"), STOP, b"data: " + b"x" * (9 << 20))
    assert (copy.written, copy.ends, copy.stream.finish_reason) == ([(TEXT, "a")], [None], "stop")


def test_a_pause_between_words_that_each_come_with_a_reason_does_not_cut(
    upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a thread reads, a timer closes the connection; the next word stops it."""
    monkeypatch.setattr(completion_stream, "TAIL_SECONDS", 0.02)
    paused = threading.Event()

    def script(call: Call) -> None:
        call.head()
        for word in ("a", "b", "c"):
            call.send(said_with_reason(word))
            paused.wait(0.1)
        call.send(DONE)
        call.raw(b"0\r\n\r\n")

    upstream.script = script
    transport = StockTransport()
    settings = Settings(api_key="k", base_url=upstream.url)
    way = Upstream(settings, lambda: transport, NoLocalModel(), None)
    pieces, stream = answer_of(way)
    transport.close()
    assert (pieces, stream.finish_reason) == ([(TEXT, "abc")], "stop")
