"""Tokens, words, sentences, everything: the same text, and a cursor that fits all of them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.answers.events import DELTAS, Event, EventType, delta_data, event_data
from chatapp.answers.text.granularity import Granularity, Joiner, Splitter
from chatapp.answers.text.sentences import SentenceCutter
from chatapp.answers.text.words import cuts_word
from tests.support.hypothesis_settings import CUTS, FEW, MANY, SPEECH, TEXTS, parts_of

GRANULARITIES = st.sampled_from(Granularity)
TEXT, REASONING = EventType.TEXT, EventType.REASONING


def written(pieces: list[tuple[EventType, str]]) -> list[Event]:
    """The events that a writer makes of what the model sends, and the end."""
    splitters = {kind: Splitter() for kind in DELTAS}
    log = [Event(1, EventType.START, b"{}")]
    for kind, text in pieces:
        for part in splitters[kind].split(text):
            log.append(Event(len(log) + 1, kind, delta_data(part)))
    return [*log, Event(len(log) + 1, EventType.DONE, event_data({"finish_reason": "stop"}))]


def text_before(log: list[Event], cursor: int) -> dict[EventType, str]:
    seen = [event for event in log if event.number <= cursor]
    return {kind: "".join(e.text for e in seen if e.type is kind) for kind in DELTAS}


def received(
    log: list[Event], granularity: Granularity, cursor: int, batches: list[int]
) -> list[Event]:
    """What a reader gets that comes at `cursor` and finds the rest in batches of these sizes."""
    rest = [event for event in log if event.number > cursor]
    if granularity is Granularity.TOKEN:
        return rest
    cutters = {kind: SentenceCutter() for kind in DELTAS}
    for kind, text in text_before(log, cursor).items():
        cutters[kind].feed(text)
    joiner = Joiner(granularity, cutters)
    return [event for batch in parts_of(rest, batches) for event in joiner.join(batch)]


def joined(events: list[Event], kind: EventType) -> str:
    return "".join(event.text for event in events if event.type is kind)


SPOKEN = st.lists(
    st.tuples(st.sampled_from(sorted(DELTAS)), (SPEECH | TEXTS).filter(bool)), max_size=12
)


@MANY
@given(SPEECH | TEXTS, CUTS)
def test_splitting_changes_no_text_and_makes_no_empty_part(text: str, cuts: list[int]) -> None:
    splitter = Splitter()
    parts = [part for piece in parts_of(text, cuts) for part in splitter.split(piece)]
    assert "".join(parts) == text
    assert all(parts)


@FEW
@given(SPEECH, CUTS)
def test_no_sentence_and_no_word_ends_inside_a_part(text: str, cuts: list[int]) -> None:
    splitter, cutter = Splitter(), SentenceCutter()
    for piece in parts_of(text, cuts):
        begin = 0
        ends = cutter.feed(piece)
        for part in splitter.split(piece):
            inside = range(begin + 1, begin + len(part))
            assert not [end for end in ends if end in inside]
            begin += len(part)


@MANY
@given(SPOKEN, st.lists(st.tuples(GRANULARITIES, st.integers(0, 60)), max_size=4), CUTS)
def test_joined_text_is_the_same_at_every_granularity_also_when_it_changes_on_the_way(
    spoken: list[tuple[EventType, str]],
    reconnects: list[tuple[Granularity, int]],
    batches: list[int],
) -> None:
    """Each connection ends after some events; the next goes on after the last number seen."""
    log = written(spoken)
    got: list[Event] = []
    for granularity, count in [*reconnects, (Granularity.TOKEN, len(log))]:
        cursor = got[-1].number if got else 0
        got += received(log, granularity, cursor, batches)[:count]
    for kind in DELTAS:
        assert joined(got, kind) == "".join(text for each, text in spoken if each is kind)
    assert all(a.number < b.number for a, b in pairwise(got))
    assert got[0].type is EventType.START
    assert got[-1] == log[-1]


@MANY
@given(SPEECH, CUTS, st.integers(0, 100), CUTS)
def test_sentences_end_where_the_cutter_says_wherever_a_reader_comes_in(
    text: str, cuts: list[int], resume: int, batches: list[int]
) -> None:
    log = written([(TEXT, piece) for piece in parts_of(text, cuts)])
    cursor = resume % (len(log) + 1)
    offset = len(text_before(log, cursor)[TEXT])
    pieces = [
        e.text for e in received(log, Granularity.SENTENCE, cursor, batches) if e.type is TEXT
    ]
    ends = [end for end in SentenceCutter().feed(text) if offset < end < len(text)]
    edges = sorted({offset, *ends, len(text)})
    assert pieces == [text[a:b] for a, b in pairwise(edges)]


@FEW
@given(SPEECH, CUTS, st.integers(0, 100), CUTS)
def test_words_are_whole_wherever_a_reader_comes_in(
    text: str, cuts: list[int], resume: int, batches: list[int]
) -> None:
    log = written([(TEXT, piece) for piece in parts_of(text, cuts)])
    cursor = resume % (len(log) + 1)
    pieces = [e.text for e in received(log, Granularity.WORD, cursor, batches) if e.type is TEXT]
    assert not [(a, b) for a, b in pairwise(pieces) if cuts_word(a, b)]


@FEW
@given(SPOKEN, st.integers(0, 100), CUTS)
def test_full_gives_each_run_of_text_or_reasoning_in_one_event(
    spoken: list[tuple[EventType, str]], resume: int, batches: list[int]
) -> None:
    log = written(spoken)
    got = received(log, Granularity.FULL, resume % (len(log) + 1), batches)
    assert not [(a, b) for a, b in pairwise(got) if a.type is b.type and a.type in DELTAS]


@pytest.mark.parametrize(
    ("granularity", "expected"),
    [
        (Granularity.TOKEN, ["He", "llo", " wor", "ld.", " Bye", " now."]),
        (Granularity.WORD, ["Hello", " world.", " Bye", " now."]),
        (Granularity.SENTENCE, ["Hello world.", " Bye now."]),
        (Granularity.FULL, ["Hello world. Bye now."]),
    ],
)
def test_one_text_at_each_granularity(granularity: Granularity, expected: list[str]) -> None:
    tokens = ["He", "llo", " wor", "ld.", " Bye", " now."]
    log = written([(TEXT, token) for token in tokens])
    got = received(log, granularity, 0, list(range(len(log))))
    assert [event.text for event in got if event.type is TEXT] == expected


def test_a_joined_event_carries_the_number_of_the_last_one() -> None:
    log = written([(TEXT, "Hello"), (TEXT, " world."), (TEXT, " Next")])
    got = received(log, Granularity.FULL, 0, [])
    assert [(e.number, e.type) for e in got] == [(1, "start"), (4, TEXT), (5, "done")]


def test_what_is_not_complete_is_held_back_until_something_else_follows() -> None:
    joiner = Joiner(Granularity.SENTENCE)
    assert list(joiner.join([Event(2, TEXT, delta_data("Hello"))])) == []
    assert list(joiner.join([])) == []
    out = list(joiner.join([Event(3, REASONING, delta_data("Hm\n"))]))
    assert [(e.number, e.type, e.text) for e in out] == [(2, TEXT, "Hello"), (3, REASONING, "Hm\n")]
