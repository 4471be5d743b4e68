"""The pieces of an answer are handed on as they came: together what came together, all of it."""

import json
from collections.abc import Callable, Iterable

import httpx2
import pytest

from chatapp.answers.events import EventType
from chatapp.errors import ChatAppError, UpstreamError
from chatapp.upstream.chunks import Delta
from chatapp.upstream.completion_stream import CompletionStream, Ended
from chatapp.upstream.transport import Cancellation, RawBody

TEXT = EventType.TEXT
DONE = b"data: [DONE]\n\n"


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
