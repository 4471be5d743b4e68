"""A foreign event stream is read as the HTML Living Standard says, wherever it is cut."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatapp.upstream.sse_decoder import Decoder, Message, MessageTooLarge
from tests.support.event_stream import decode
from tests.support.hypothesis_settings import CUTS, FEW, MANY, parts_of


def standard(stream: bytes) -> list[Message]:
    """[spec] 9.2.5 and 9.2.6 taken literally: the whole stream at once, line by line.

    As the reader under test hands out data as bytes, data is encoded again at the end.
    """
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")[:-1]  # A last line without an end is not processed.
    messages = []
    data = event_type = last_id = ""
    for line in lines:
        if line == "":
            if data:
                event = event_type or "message"
                messages.append(Message(event, data.removesuffix("\n").encode(), last_id))
            data = event_type = ""
            continue
        field, colon, value = line.partition(":")
        if colon and not field:
            continue
        if value.startswith(" "):
            value = value[1:]
        if field == "event":
            event_type = value
        elif field == "data":
            data += value + "\n"
        elif field == "id" and "\0" not in value:
            last_id = value
    return messages


LINES = st.sampled_from(
    [
        b"data: a",
        b"data:b",
        b"data:  two spaces",
        b"data",
        b"data:",
        "data: 中😀\u2028\u0085".encode(),
        b"data: \xe4\xb8 half",
        b'data: {"a": ":"}',
        b"event: x",
        b"event:",
        b"event",
        b"id: 7",
        b"id",
        b"id: a\0b",
        b"retry: 10",
        b": comment",
        b":",
        b"",
        b"",
        b"unknown: field",
        b"Data: not ours",
        b" data: leading space",
        b"data\0: x",
        b"data: \x0b\x0c\x1c",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])
STREAMS = st.builds(
    lambda bom, lines, tail: bom + b"".join(a + b for a, b in lines) + tail,
    st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf"]),
    st.lists(st.tuples(LINES, ENDS), max_size=14),
    st.sampled_from([b"", b"data: unfinished", b"\xef"]),
)


@MANY
@given(STREAMS, CUTS)
def test_foreign_streams_are_read_as_the_standard_reads_them(
    stream: bytes, cuts: list[int]
) -> None:
    """Comments, CR, LF and CRLF mixed, no space, NUL in an id, a byte order mark; cut anywhere."""
    expected = standard(stream)
    messages = decode(parts_of(stream, cuts))
    mended = [m._replace(data=m.data.decode("utf-8", "replace").encode()) for m in messages]
    assert mended == expected


@FEW
@given(STREAMS)
def test_a_stream_byte_by_byte_is_the_same_as_in_one_piece(stream: bytes) -> None:
    assert decode([stream[i : i + 1] for i in range(len(stream))]) == decode([stream])


@FEW
@given(st.binary(max_size=300), CUTS)
def test_garbage_is_read_as_the_standard_reads_it(stream: bytes, cuts: list[int]) -> None:
    messages = decode(parts_of(stream, cuts))
    mended = [m._replace(data=m.data.decode("utf-8", "replace").encode()) for m in messages]
    assert mended == standard(stream)


EVENTS = st.sampled_from(
    [b"data: a\n\n", b"data: b\n\ndata: c\n\n", b"data: d\ndata: e\n\n", b"\n\n"]
)


@MANY
@example([b"data: a\n\n", b"\xef\xbb\xbfdata: b\n\n"])
@given(st.lists(EVENTS | STREAMS | st.binary(max_size=20), max_size=8))
def test_the_short_way_of_whole_events_is_the_same_as_the_long_one(parts: list[bytes]) -> None:
    short, long = Decoder(), Decoder()
    for part in parts:
        assert short.feed_data(part) == [message.data for message in long.feed(part)]
    assert short.flush() == long.flush()


def test_flush_gives_what_an_end_without_a_blank_line_would_lose() -> None:
    decoder = Decoder()
    assert decoder.feed(b"id: 1\ndata: a\ndata: b") == []
    assert decoder.flush() == [Message("message", b"a\nb", "1")]
    assert decoder.flush() == []


@pytest.mark.parametrize(
    "stream",
    [b"data: " + b"x" * 200, b"data: xxxxxxxx\n" * 30, b"data\n" * 200, b": " + b"x" * 200],
    ids=["one line", "many lines", "many empty lines", "a comment"],
)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_an_event_that_never_ends_does_not_fill_the_memory(stream: bytes, step: int) -> None:
    parts = [stream[at : at + step] for at in range(0, len(stream), step)]
    with pytest.raises(MessageTooLarge):
        decode(parts, limit=100)


def test_many_events_within_the_limit_are_no_long_event() -> None:
    assert len(decode([b"data: xxxxxxxx\n\n"] * 100, limit=20)) == 100
