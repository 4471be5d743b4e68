"""Event streams are written as the HTML Living Standard says, and come back as they went."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.answers import sse
from chatapp.answers.events import Event, EventType, delta_data, event_data
from chatapp.answers.live_log import LiveLog
from chatapp.upstream.sse_decoder import Message
from tests.support.event_stream import decode
from tests.support.hypothesis_settings import CUTS, FEW, MANY, TEXTS, parts_of

DELTAS = st.tuples(st.sampled_from([EventType.TEXT, EventType.REASONING]), TEXTS)


@FEW
@given(st.lists(DELTAS, max_size=8), CUTS)
def test_what_is_encoded_is_decoded_again_wherever_the_bytes_are_cut(
    pieces: list[tuple[EventType, str]], cuts: list[int]
) -> None:
    """U+2028, U+0085, NUL, emoji and empty texts survive."""
    events = [Event(n, kind, delta_data(text)) for n, (kind, text) in enumerate(pieces, 1)]
    wire = sse.RETRY + b"".join(sse.encode(event) + sse.KEEP_ALIVE for event in events)
    received = decode(parts_of(wire, cuts))
    assert received == [Message(e.type, e.data, str(e.number)) for e in events]
    joined = "".join(event.text for event in events)
    assert "".join(Event(1, EventType.TEXT, m.data).text for m in received) == joined


@FEW
@given(TEXTS)
def test_a_frame_is_three_lines_at_the_most_and_ends_with_a_blank_one(text: str) -> None:
    frame = sse.encode(Event(3, EventType.REASONING, delta_data(text)))
    assert frame.count(b"\n") == 4
    assert b"\r" not in frame
    assert frame.startswith(b"event: reasoning\ndata: {")
    assert frame.endswith(b"}\nid: 3\n\n")


@MANY
@given(TEXTS)
def test_a_client_that_ends_lines_where_python_does_reads_the_same(text: str) -> None:
    """As `httpx-sse` and whoever uses `str.splitlines`; on every way to the wire."""
    log = LiveLog(1 << 20)
    log.append_piece(EventType.TEXT, text)
    named = sse.encode_named("news", event_data({"text": text}), "1")
    snapshot = sse.encode(Event(1, EventType.SNAPSHOT, event_data({"text": text})))
    piece = sse.encode(Event(1, EventType.TEXT, delta_data(text)))
    for frame in (named, snapshot, piece, log.read(0)[0]):
        lines = frame.decode().splitlines()
        assert lines == frame.decode().split("\n")[:-1]
        (data,) = [line for line in lines if line.startswith("data: ")]
        assert json.loads(data.removeprefix("data: ")) == {"text": text}


def test_other_characters_are_sent_as_they_are() -> None:
    assert delta_data("“中😀”\u2026") == '{"text":"“中😀”\u2026"}'.encode()


def test_text_goes_unnamed_so_that_onmessage_gets_it() -> None:
    assert sse.encode(Event(2, EventType.TEXT, b'{"text":"a"}')) == b'data: {"text":"a"}\nid: 2\n\n'


@FEW
@given(st.sampled_from(EventType), TEXTS, st.integers(1, 10**12))
def test_a_frame_in_the_log_gives_back_its_event(kind: EventType, text: str, number: int) -> None:
    event = Event(number, kind, event_data({"text": text, "data": "\ndata: x\nevent: y"}))
    assert sse.decode_frame(sse.encode(event), number) == event


def test_a_push_event_is_read_with_its_name_and_id() -> None:
    frame = sse.encode_named("news", b'{"a":1}', "ab-3")
    assert decode([frame]) == [Message("news", b'{"a":1}', "ab-3")]


def test_the_first_and_the_last_bytes_are_no_events() -> None:
    assert decode([sse.RETRY, sse.COME_BACK, sse.KEEP_ALIVE]) == []
    assert sse.RETRY == b"retry: 1000\n"
    assert sse.COME_BACK == b"retry: 200\n"
    assert sse.KEEP_ALIVE == b": keep-alive\n"


@pytest.mark.parametrize(
    ("header", "query", "cursor"),
    [
        (None, None, 0),
        ("", "", 0),
        ("7", None, 7),
        (None, "7", 7),
        ("7", "8", 7),
        ("", "8", 8),
        ("007", None, 7),
        ("9" * 18, None, int("9" * 18)),
        ("9" * 19, None, None),
        ("-1", None, None),
        ("1.0", None, None),
        ("x", "3", None),
        ("٣", None, None),
        ("1\n", None, None),
        ("x" * 1000, None, None),
    ],
)
def test_a_cursor_is_a_number_of_ours_or_nobody_knows(
    header: str | None, query: str | None, cursor: int | None
) -> None:
    assert sse.parse_cursor(header, query) == cursor
