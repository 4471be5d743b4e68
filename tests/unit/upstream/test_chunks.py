"""What servers stream is read as it is meant; what is no answer is an error, never a crash."""

import contextlib
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.answers.events import EventType, delta_data, event_data
from chatapp.errors import ChatAppError, UpstreamBusy, UpstreamError, UpstreamInvalid
from chatapp.upstream.chunks import ChunkReader, Usage, reported, tokens
from tests.support.hypothesis_settings import FEW, MANY

TEXT, REASONING = EventType.TEXT, EventType.REASONING


def chunk(delta: Any = None, reason: str | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return json.dumps({"id": "x", "object": "y", "choices": [choice], **fields}).encode()


def read(*chunks: bytes) -> tuple[list[tuple[EventType, str]], ChunkReader]:
    reader = ChunkReader()
    pieces: list[tuple[EventType, str]] = []
    for each in chunks:
        reader.read(each, pieces)
    return pieces + reader.rest(), reader


@pytest.mark.parametrize(
    ("delta", "pieces"),
    [
        ({"content": "a"}, [(TEXT, "a")]),
        ({"content": ""}, []),
        ({"content": None}, []),
        ({"role": "assistant"}, []),
        ({"reasoning_content": "r"}, [(REASONING, "r")]),
        ({"reasoning": "r"}, [(REASONING, "r")]),
        ({"reasoning_content": "r", "reasoning": "r"}, [(REASONING, "r")]),
        ({"reasoning_content": "r", "content": "a"}, [(REASONING, "r"), (TEXT, "a")]),
        ({"refusal": "no"}, [(TEXT, "no")]),
        ({"content": "\u2028\u0085😀"}, [(TEXT, "\u2028\u0085😀")]),
        ({"content": "a\0b"}, [(TEXT, "a\ufffdb")]),
        (
            {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            [(TEXT, "ab")],
        ),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}]},
            [(REASONING, "t")],
        ),
        ({"content": [{"type": "thinking", "thinking": "t"}]}, [(REASONING, "t")]),
        ({"content": [{"type": "image"}, None]}, []),
        ({"content": ["a", {"type": "text", "text": "b"}]}, [(TEXT, "ab")]),
        ({"content": 7}, [(TEXT, "7")]),
        ({"content": 0.10}, [(TEXT, "0.1")]),
        ({"content": [{"type": "text", "text": 7}]}, [(TEXT, "7")]),
        ({"content": {"type": "text", "text": "a"}}, [(TEXT, "a")]),
        ({"content": True}, []),
        ({"reasoning": [{"text": "r"}]}, [(REASONING, "r")]),
        ("", []),
        ([], []),
        ({"unknown": {"deep": [1, 2, {}]}, "content": "a"}, [(TEXT, "a")]),
        (None, []),
    ],
)
def test_each_form_of_a_delta(delta: Any, pieces: list[tuple[EventType, str]]) -> None:
    assert read(chunk(delta))[0] == pieces


@pytest.mark.parametrize(
    "data", [b'{"choices":[]}', b'{"choices":null}', b"{}", b'{"choices":[{}]}', b' {"x":[1,{}]} ']
)
def test_a_chunk_without_choices_or_delta_says_nothing(data: bytes) -> None:
    pieces, reader = read(data)
    assert (pieces, reader.finish_reason, reader.usage) == ([], None, None)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("content_filter", "content_filter"),
        ("safety", "content_filter"),
        ("tool_calls", "stop"),
        ("eos", "stop"),
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("max_output_tokens", "length"),
        ("model_length", "length"),
        ("model_context_window_exceeded", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("sensitive", "content_filter"),
        ("refusal", "content_filter"),
        ("null", None),
        ("None", None),
    ],
)
def test_finish_reasons_become_one_of_ours(theirs: str, ours: str | None) -> None:
    assert read(chunk({}, theirs))[1].finish_reason == ours


def test_a_reason_that_nobody_knows_is_an_end_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reasons = [read(chunk({}, "out of ideas"))[1].finish_reason for _ in range(3)]
    assert reasons == ["stop"] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "unknown finish reason 'out of ideas' is taken for stop"
    ]


@pytest.mark.parametrize(
    "reason",
    [
        "error",
        "abort",
        "insufficient_system_resource",
        "network_error",
        "timeout",
        "server_error",
        "cancelled",
        "ERROR",
    ],
)
def test_an_answer_that_the_server_broke_off_is_no_success(reason: str) -> None:
    with pytest.raises(UpstreamError):
        read(chunk({"content": "a"}, reason))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "x", "code": 429}, UpstreamBusy),
        ({"type": "rate_limit_exceeded"}, UpstreamBusy),
        ({"type": "overloaded_error"}, UpstreamBusy),
        ({"message": "secret sk-123 /etc/path"}, UpstreamError),
        ("a text", UpstreamError),
        (["a list"], UpstreamError),
    ],
)
def test_an_error_in_mid_stream_is_a_failure_and_is_not_shown_raw(error: Any, kind: type) -> None:
    with pytest.raises(kind) as caught:
        read(json.dumps({"error": error}).encode())
    assert type(reported(error)) is kind
    assert "sk-123" not in caught.value.message


def test_usage_comes_in_three_fields() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "details": {"x": 1}}
    expected = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert read(chunk(usage=usage))[1].usage == expected
    assert read(b'{"usage":{"prompt_tokens":3,"completion_tokens":4}}')[1].usage == expected
    assert tokens(Usage()) is None


def test_a_surrogate_pair_that_is_cut_between_chunks_is_one_character() -> None:
    halves = [
        b'{"choices":[{"delta":{"content":"a\\ud83d"}}]}',
        b'{"choices":[{"delta":{"content":"\\ude00b"}}]}',
    ]
    assert "".join(text for _, text in read(*halves)[0]) == "a😀b"


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    alone = b'{"choices":[{"delta":{"content":"a\\ud83d"}}]}'
    assert "".join(text for _, text in read(alone)[0]) == "a\ufffd"
    assert "".join(text for _, text in read(alone, chunk({"content": "b"}))[0]) == "a\ufffdb"
    wrong = b'{"choices":[{"delta":{"content":"\\ude00b"}}]}'
    assert read(wrong)[0] == [(TEXT, "\ufffdb")]


def test_reasoning_and_text_do_not_lend_each_other_their_halves() -> None:
    pieces, _ = read(
        b'{"choices":[{"delta":{"reasoning":"r\\ud83d"}}]}',
        chunk({"content": "a"}),
        b'{"choices":[{"delta":{"reasoning":"\\ude00"}}]}',
    )
    assert "".join(text for kind, text in pieces if kind is REASONING) == "r😀"
    assert "".join(text for kind, text in pieces if kind is TEXT) == "a"


def test_broken_utf8_is_replaced_and_the_rest_is_kept() -> None:
    assert read(b'{"choices":[{"delta":{"content":"a\xff\xe4\xb8b"}}]}')[0][0][1].startswith("a")


def test_the_fragments_of_a_tool_call_are_joined() -> None:
    _, reader = read(
        chunk({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f"}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}),
        chunk({"tool_calls": [{"index": 1, "id": "c2", "function": {"name": "g"}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
        chunk({"tool_calls": [{"function": None}]}, "tool_calls"),
    )
    first, second = reader.tool_calls[0], reader.tool_calls[1]
    assert (first.id, first.function) == ("c1", type(first.function)("f", '{"a":1}'))
    assert (second.id, second.function.name) == ("c2", "g")


def test_a_tool_call_without_an_index_is_the_first() -> None:
    _, reader = read(chunk({"tool_calls": [{"index": None, "id": "c"}]}))
    assert reader.tool_calls[0].id == "c"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"[]",
        b"null",
        b"5",
        b'"text"',
        b'{"choices":5}',
        b'{"choices":{"a":1}}',
        b'{"choices":[null]}',
        b'{"choices":[{"delta":{"content":[{"type":"thinking","thinking":{}}]}}]}',
        b'{"choices":[{"delta":{"content":[{"type":[],"text":5}, {"type":"text","text":{}}]}}]}',
        b'{"usage":{"prompt_tokens":1e999}}',
        b'{"usage":{"prompt_tokens":NaN}}',
        b'{"usage":5}',
        b'{"choices":[{"delta":{"content":"cut',
        b'{"error":' + b"[" * 100_000,
        b'{"usage":{"prompt_tokens":' + b"9" * 5000 + b"}}",
    ],
    ids=lambda data: data[:40].decode(),
)
def test_what_is_no_chunk_is_an_error_of_ours_or_says_nothing(data: bytes) -> None:
    with contextlib.suppress(UpstreamInvalid):
        assert read(data)[0] == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        "choices",
        "delta",
        "content",
        "reasoning",
        "reasoning_content",
        "refusal",
        "tool_calls",
        "function",
        "arguments",
        "name",
        "index",
        "id",
        "finish_reason",
        "usage",
        "prompt_tokens",
        "total_tokens",
        "error",
        "code",
        "type",
        "text",
        "thinking",
        "message",
        "function_call",
        "signature",
        "extra_content",
    ]
)
LIKE_A_CHUNK = st.recursive(
    JSON | st.sampled_from(["\ud83d", "\ude00", "stop", "error", "text", "thinking", 1e30, -1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
CHUNKS = (
    st.builds(lambda value: json.dumps(value).encode(), LIKE_A_CHUNK)
    | st.builds(
        lambda delta, more: json.dumps({"choices": [{"delta": delta}], **more}).encode(),
        st.dictionaries(KEYS, LIKE_A_CHUNK, max_size=4),
        st.dictionaries(KEYS, LIKE_A_CHUNK, max_size=2),
    )
    | st.binary(max_size=40)
)


@MANY
@given(st.lists(CHUNKS, max_size=3), st.booleans())
def test_whatever_comes_is_read_or_is_an_error_of_ours(chunks: list[bytes], keep: bool) -> None:
    """And what is read can be written down: whole characters, and what JSON can say."""
    reader = ChunkReader(keep=keep)
    pieces: list[tuple[EventType, str]] = []
    with contextlib.suppress(ChatAppError):
        for each in chunks:
            reader.read(each, pieces)
    for _, text in pieces + reader.rest():
        assert text
        assert delta_data(text)
    assert event_data({"usage": reader.usage})
    assert json.dumps([reader.sent_back, *(call.extra for call in reader.tool_calls.values())])


@FEW
@given(st.text(max_size=30), st.lists(st.integers(0, 400), max_size=4))
def test_text_is_the_same_however_its_utf16_units_are_cut_into_chunks(
    text: str, cuts: list[int]
) -> None:
    """A server that counts in UTF-16 may send half of an emoji in a chunk, half in the next."""
    units = text.encode("utf-16-le", "surrogatepass")
    edges = sorted({0, len(units), *(2 * cut for cut in cuts if 2 * cut < len(units))})
    chunks = [
        json.dumps({"choices": [{"delta": {"content": part.decode("utf-16-le", "surrogatepass")}}]})
        for part in (units[a:b] for a, b in pairwise(edges))
    ]
    pieces, _ = read(*(each.encode() for each in chunks))
    assert "".join(piece for _, piece in pieces) == text.replace("\0", "\ufffd")


def read_calls(*calls: dict[str, Any]) -> None:
    reader = ChunkReader()
    for call in calls:
        reader.read(json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]}).encode(), [])


def test_tool_calls_do_not_grow_without_a_bound() -> None:
    """Neither by many calls nor by long arguments."""
    read_calls(*({"index": index} for index in range(100)))
    with pytest.raises(UpstreamInvalid):
        read_calls(*({"index": index} for index in range(1000)))
    with pytest.raises(UpstreamInvalid):
        read_calls(*[{"index": 0, "function": {"arguments": "x" * 100_000}}] * 20)


def test_what_goes_back_does_not_grow_without_a_bound() -> None:
    """Neither of the message nor of a call, and not at all where nothing goes back."""
    fields = {"blocks": [{"data": "x" * 100_000}]}
    call = {"tool_calls": [{"index": 0, "id": "c", "blob": "x" * 100_000}]}
    for delta, keep in ((fields, True), (call, False), ({"reasoning": "x" * 100_000}, True)):
        with pytest.raises(UpstreamInvalid):
            read_often(chunk(delta), keep)
    assert read_often(chunk(fields), keep=False).sent_back == {}


def read_often(data: bytes, keep: bool) -> ChunkReader:
    reader = ChunkReader(keep=keep)
    for _ in range(100):
        reader.read(data, [])
    return reader
