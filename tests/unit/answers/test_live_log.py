"""A log in memory gives every cursor the exact rest, or says that it does not reach back."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.answers import sse
from chatapp.answers.events import DELTAS, Event, EventType, delta_data, event_data
from chatapp.answers.live_log import LiveLog
from chatapp.upstream.sse_decoder import Decoder
from tests.support.hypothesis_settings import FEW, MANY, TEXTS

TEXT, REASONING = EventType.TEXT, EventType.REASONING
ENTRIES = st.lists(
    st.tuples(st.sampled_from([TEXT, TEXT, REASONING, EventType.TOOL]), TEXTS), max_size=30
)


def fill(log: LiveLog, entries: list[tuple[EventType, str]]) -> list[Event]:
    """Append; the events as they ought to be in the log."""
    events = []
    for number, (kind, text) in enumerate(entries, log.last + 1):
        if kind in DELTAS:
            log.append_piece(kind, text)
        else:
            log.append(kind, delta_data(text))
        events.append(Event(number, kind, delta_data(text)))
    return events


@MANY
@given(ENTRIES, st.integers(1, 2000))
def test_any_cursor_gives_the_exact_rest_or_a_lookup_error(
    entries: list[tuple[EventType, str]], max_bytes: int
) -> None:
    log = LiveLog(max_bytes)
    events = fill(log, entries)
    assert log.last == len(events)
    for cursor in range(len(events) + 1):
        rest = events[cursor:]
        if log.reaches(cursor):
            assert log.read(cursor) == (b"".join(map(sse.encode, rest)), len(events))
            assert log.events(cursor) == rest
            assert log.events(cursor, cursor + 2) == rest[:2]
        else:
            with pytest.raises(LookupError):
                log.read(cursor)
            with pytest.raises(LookupError):
                log.events(cursor)


@FEW
@given(ENTRIES, st.integers(1, 500))
def test_trimming_keeps_all_text_and_the_newest_event_and_holds_the_bound(
    entries: list[tuple[EventType, str]], max_bytes: int
) -> None:
    log = LiveLog(max_bytes)
    events = fill(log, entries)
    texts = {k: "".join(text for kind, text in entries if kind is k) for k in DELTAS}
    assert log.transcript() == (len(events), texts[TEXT], texts[REASONING])
    if events:
        newest = sse.encode(events[-1])
        assert log.read(len(events) - 1)[0] == newest
        kept = log.size - sum(len(text.encode()) for text in texts.values())
        assert kept <= max(max_bytes, len(newest))


@FEW
@given(ENTRIES, ENTRIES)
def test_reading_in_two_steps_is_reading_in_one(
    before: list[tuple[EventType, str]], after: list[tuple[EventType, str]]
) -> None:
    log = LiveLog(1 << 20)
    fill(log, before)
    first, cursor = log.read(0)
    fill(log, after)
    second, end = log.read(cursor)
    assert (first + second, end) == log.read(0)


def test_a_cursor_at_or_past_the_end_gets_nothing_yet() -> None:
    log = LiveLog(1000)
    assert (log.last, log.read(0), log.events(0)) == (0, (b"", 0), [])
    fill(log, [(TEXT, "a")])
    assert log.read(1) == (b"", 1)
    assert log.read(5) == (b"", 5)
    assert log.events(5) == []
    assert not log.reaches(5)
    assert log.reaches(1)


def test_a_log_ends_at_its_last_event_and_nowhere_else() -> None:
    log = LiveLog(100)
    fill(log, [(TEXT, "some text that is long enough to be trimmed")] * 5)
    assert not any(log.ends_at(number) for number in range(-1, 8))
    log.append(EventType.DONE, event_data({}))
    assert [number for number in range(-1, 9) if log.ends_at(number)] == [6]


def test_half_a_character_is_refused_and_nothing_is_appended() -> None:
    log = LiveLog(1000)
    with pytest.raises(UnicodeEncodeError):
        log.append_piece(TEXT, "\ud800")
    assert (log.last, log.text()) == (0, "")


def test_threads_that_read_while_one_writes_and_trims_see_every_event_whole() -> None:  # noqa: C901
    """Each reader gets a gapless sequence; where the log was trimmed before it, a snapshot."""
    log = LiveLog(2000)
    count, over = 4000, threading.Event()
    faults: list[object] = []

    def read() -> None:
        cursor, text, decoder = 0, "", Decoder()
        while not (over.is_set() and cursor == log.last):
            try:
                data, end = log.read(cursor)
            except LookupError:
                cursor, text, _ = log.transcript()
                continue
            for message in decoder.feed(data):
                text += Event(0, TEXT, message.data).text
                cursor += 1
                if message.id != str(cursor):
                    faults.append((message.id, cursor))
            if cursor != end:
                faults.append((cursor, end))
        if text != log.text():
            faults.append("text")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(count):
        log.append_piece(TEXT, f"{number},")
    over.set()
    for reader in readers:
        reader.join(60)
        assert not reader.is_alive()
    assert faults == []
