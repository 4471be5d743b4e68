"""What a request costs is in proportion to what it gets, and others are answered meanwhile."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.answers import answer as answer_module
from chatapp.answers import live_log
from chatapp.answers.answer import Answer
from chatapp.answers.events import DELTAS, EventType, event_data
from chatapp.answers.live_log import LiveLog
from chatapp.answers.outcome import Transcript
from chatapp.answers.text.granularity import Granularity
from chatapp.answers.text.sentences import SentenceCutter
from chatapp.delivery.follower import Follower
from tests.support.hypothesis_settings import FEW, SPEECH

TEXT, REASONING = EventType.TEXT, EventType.REASONING
LONG = 400_000
"""Characters of a long answer."""


def begun(max_bytes: int = 1 << 22) -> Answer:
    answer = Answer("me", LiveLog(max_bytes), 1 << 22)
    answer.log.append(EventType.START, answer.start_event().data)
    return answer


def end(answer: Answer) -> None:
    answer.log.append(EventType.DONE, event_data({"finish_reason": "stop"}))
    answer.ended_at = 1.0


def everything(feed: Follower) -> bytes:
    wire = b""
    while (data := feed.read()) or feed.more:
        wire += data
    return wire


def follower(answer: Answer, cursor: int | None, granularity: Granularity) -> Follower:
    return Follower(answer, cursor, granularity, lambda: False)


class Searched:
    """How many characters are searched for sentences, and how many at a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.characters = 0
        feed = SentenceCutter.feed

        def counted(cutter: SentenceCutter, text: str) -> list[int]:
            self.characters += len(text)
            return feed(cutter, text)

        monkeypatch.setattr(SentenceCutter, "feed", counted)


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> Searched:
    return Searched(monkeypatch)


@pytest.fixture(scope="module")
def close_checkpoints() -> Iterator[None]:
    """So close that short texts have several."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (answer_module, live_log):
            patch.setattr(module, "SPACING", 7)
        yield


def long_answer() -> Answer:
    answer = begun(1 << 24)
    sentence = ("It", " is", " so", ", he", " said", ".", " And", ' "No', '!"', " 3.", "14\n")
    while len(answer.log.text()) < LONG:
        answer.write([(TEXT, piece) for piece in sentence * 100])
    return answer


class TestResuming:
    """A reader that comes back with a cursor, for sentences or for the whole text."""

    @pytest.mark.parametrize("granularity", ["word", "sentence", "full"])
    def test_searches_what_it_gets_and_a_few_kilobytes(
        self, granularity: str, searched: Searched
    ) -> None:
        answer = long_answer()
        end(answer)
        searched.characters = 0
        feed = follower(answer, answer.log.last - 10, Granularity(granularity))
        assert 0 < len(everything(feed)) < 1000
        assert searched.characters < LONG / 20

    @pytest.mark.parametrize("cursor", [None, 3])
    def test_a_snapshot_searches_as_little(self, cursor: int | None, searched: Searched) -> None:
        answer = begun(20_000)  # The log does not go back to the cursor.
        answer.write([(TEXT, "A word. ")] * (LONG // 8))
        searched.characters = 0
        feed = follower(answer, cursor, Granularity.SENTENCE)
        assert len(everything(feed)) > LONG
        answer.log.append_piece(TEXT, "One more.")
        everything(feed)
        assert searched.characters < LONG / 20

    def test_another_workers_answer_is_searched_once_for_all_readers(
        self, searched: Searched
    ) -> None:
        """And with pauses, in which that worker does other things."""
        answer, written = begun(1 << 24), long_answer()
        for event in written.log.events(1):
            answer.log.append_piece(event.type, event.text)
        pauses: list[int] = []
        searched.characters = 0
        answer.log.cutters_at(answer.log.last, lambda: pauses.append(searched.characters))
        assert max(b - a for a, b in zip([0, *pauses], pauses, strict=False)) < LONG / 20
        searched.characters = 0
        for cursor in range(answer.log.last // 2, answer.log.last, answer.log.last // 10):
            follower(answer, cursor, Granularity.SENTENCE)
        assert searched.characters < LONG / 5

    def test_a_long_text_is_joined_in_parts(self) -> None:
        answer = long_answer()
        feed = follower(answer, 0, Granularity.SENTENCE)
        parts = 0
        while feed.read() or feed.more:
            parts += 1
        assert parts > 20

    @FEW
    @pytest.mark.usefixtures("close_checkpoints")
    @given(
        st.lists(st.tuples(st.sampled_from(sorted(DELTAS)), SPEECH.filter(bool)), max_size=20),
        st.integers(0, 10_000),
        st.sampled_from(Granularity),
        st.sampled_from(["written", "replicated", "trimmed", "restarted"]),
    )
    def test_gives_the_same_with_and_without_the_kept_state(
        self,
        pieces: list[tuple[EventType, str]],
        at: int,
        granularity: Granularity,
        how: str,
    ) -> None:
        written = begun(300 if how == "trimmed" else 1 << 20)
        for piece in pieces:
            written.write([piece])
        cursor = at % (written.log.last + 1)
        answer = {"replicated": replicated, "restarted": restarted}.get(how, same)(written)
        answer.log.append_piece(TEXT, "Hm. ")
        end(answer)
        if not answer.log.reaches(cursor):
            cursor = answer.log.last - 1
        cutters = answer.log.cutters_at(cursor)
        for kind, text in text_before(answer, cursor).items():
            from_the_start = SentenceCutter()
            from_the_start.feed(text)
            assert state(cutters[kind]) == state(from_the_start)
        first = everything(follower(answer, cursor, granularity))
        assert everything(follower(answer, cursor, granularity)) == first


def same(answer: Answer) -> Answer:
    return answer


def replicated(written: Answer) -> Answer:
    """As another worker has it, which knows no states."""
    answer = begun()
    for event in written.log.events(1):
        answer.log.append_piece(event.type, event.text)
    return answer


def restarted(written: Answer) -> Answer:
    """As another worker has it that came late."""
    answer = begun()
    answer.log.restart(written.log.transcript())
    return answer


def text_before(answer: Answer, cursor: int) -> dict[EventType, str]:
    transcript: Transcript = answer.log.transcript()
    texts = {}
    for kind in DELTAS:
        later = [e.text for e in answer.log.events(cursor) if e.type is kind]
        texts[kind] = transcript.of(kind)[: len(transcript.of(kind)) - len("".join(later))]
    return texts


def state(cutter: SentenceCutter) -> dict[str, Any]:
    """What decides where the next sentence ends."""
    held = {name: getattr(cutter, name) for name in SentenceCutter.__slots__}
    # How much of a line is kept depends on how its text was divided.
    return held | {"line": held["line"][-64:], "head": held["head"][:64], "ink": None}
