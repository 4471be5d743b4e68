"""A continued answer reads as if it had been written in one go."""

from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chatapp.answers.answer import Answer, Deltas
from chatapp.answers.events import EventType
from chatapp.answers.live_log import LiveLog
from chatapp.answers.outcome import Status
from chatapp.errors import UpstreamBusy, UpstreamCut, UpstreamEmpty
from chatapp.generation.continuation import (
    MAX_OVERLAP_CHARS,
    MIN_OVERLAP_CHARS,
    Continuation,
    Seam,
    interrupted,
    prefilled,
)
from tests.support.hypothesis_settings import CUTS, FEW, MANY, SPEECH, TEXTS, parts_of

TEXT, REASONING = EventType.TEXT, EventType.REASONING
REPETITIVE = st.text("ab ", max_size=60)
ANY = st.one_of(TEXTS, SPEECH, REPETITIVE)
LONG = st.text(st.sampled_from("ab 中。😀"), min_size=MIN_OVERLAP_CHARS, max_size=MAX_OVERLAP_CHARS)


def joined(before: str, continuation: str, cuts: list[int]) -> str:
    """What is appended of a continuation that comes in these pieces."""
    seam = Seam(before)
    return "".join(seam.feed(part) for part in parts_of(continuation, cuts)) + seam.rest()


def overlap(before: str, after: str) -> int:
    """How long a beginning of `after` the text before ends with."""
    longest = min(len(before), len(after))
    return next(n for n in range(longest, -1, -1) if before.endswith(after[:n]))


class TestTheSeam:
    @MANY
    @given(ANY, ANY, CUTS)
    def test_leaves_out_an_echo_of_the_whole_text(
        self, before: str, after: str, cuts: list[int]
    ) -> None:
        assert joined(before, before + after, cuts) == after

    @MANY
    @given(ANY.filter(bool), LONG, ANY, CUTS)
    def test_leaves_out_what_repeats_the_last_words_once(
        self, start: str, end: str, after: str, cuts: list[int]
    ) -> None:
        before = start + end
        continuation = end + after
        # Not an echo, and no longer overlap by chance.
        assume(not continuation.startswith(before) and not before.startswith(continuation))
        assume(overlap(before, continuation) == len(end))
        assert joined(before, continuation, cuts) == after

    @MANY
    @given(ANY, ANY, CUTS)
    def test_keeps_what_repeats_less_than_that(
        self, before: str, after: str, cuts: list[int]
    ) -> None:
        assume(overlap(before, after) < MIN_OVERLAP_CHARS)
        assume(not (before and after.startswith(before)))
        assume(not (before.startswith(after) and len(after) >= MIN_OVERLAP_CHARS))
        assert joined(before, after, cuts) == after

    @MANY
    @given(ANY, ANY, CUTS)
    def test_loses_nothing_but_an_echo_or_an_overlap(
        self, before: str, after: str, cuts: list[int]
    ) -> None:
        kept = joined(before, after, cuts)
        assert after.endswith(kept)
        left_out = after[: len(after) - len(kept)]
        echoed = before.startswith(left_out)
        assert not left_out or echoed or before.endswith(left_out)
        assert not left_out or left_out == before or len(left_out) >= MIN_OVERLAP_CHARS

    @MANY
    @given(ANY, ANY, CUTS, CUTS)
    def test_decides_the_same_however_the_continuation_is_cut(
        self, before: str, after: str, cuts: list[int], others: list[int]
    ) -> None:
        assert joined(before, after, cuts) == joined(before, after, others)

    @FEW
    @given(st.integers(MIN_OVERLAP_CHARS, MAX_OVERLAP_CHARS), st.integers(1, 500), CUTS)
    def test_finds_an_overlap_of_any_length_up_to_the_most(
        self, size: int, more: int, cuts: list[int]
    ) -> None:
        before = "".join(f"{number}," for number in range(1000))
        after = "x" * more
        assert joined(before, before[-size:] + after, cuts) == after

    def test_holds_nothing_back_once_it_is_passed(self) -> None:
        seam = Seam("The quick brown fox")
        assert seam.feed("quick") == ""
        assert seam.feed(" brown fox ju") == " ju"
        assert seam.feed("quick brown fox") == "quick brown fox"
        assert seam.rest() == ""

    def test_without_a_text_before_passes_all_on_at_once(self) -> None:
        assert Seam("").feed("a") == "a"


class FakeStream:
    """A stream whose pieces come in these groups."""

    def __init__(
        self, *groups: list[tuple[EventType, str]], fault: Exception | None = None
    ) -> None:
        self.groups = groups
        self.fault = fault
        self.finish_reason: str | None = None
        self.closed = False

    def copy(
        self, write: Callable[[Deltas], bool], ended: Callable[[Exception | None], None]
    ) -> None:
        for group in self.groups:
            if not write(group):
                self.finish_reason = "length"
                break
        else:
            self.finish_reason = "stop"
        ended(self.fault)

    def usage(self, text: str) -> tuple[dict[str, int], str]:
        return {"total_tokens": len(text)}, "provider"

    def close(self) -> None:
        self.closed = True


def continued(stream: FakeStream, before: str, most: int = 1000) -> tuple[Answer, list[object]]:
    """An answer that had this text, after the stream, and what the stream ended with."""
    answer = Answer("me", LiveLog(1 << 20), most)
    answer.log.append_piece(TEXT, before)
    answer.resume()
    answer.move(Status.STREAMING)
    ends: list[object] = []
    Continuation(stream, before).copy(answer.write, ends.append)
    return answer, ends


class TestAContinuation:
    @FEW
    @given(SPEECH.filter(bool), SPEECH, CUTS)
    def test_is_appended_without_the_echo(self, before: str, after: str, cuts: list[int]) -> None:
        parts = parts_of(before + after, cuts)
        answer, ends = continued(FakeStream(*([(TEXT, part)] for part in parts)), before)
        assert answer.log.text() == before + after
        assert ends == [None]

    def test_lets_reasoning_pass_at_once(self) -> None:
        stream = FakeStream([(REASONING, "Hmm. "), (TEXT, "The quick")], [(REASONING, "So.")])
        answer, _ = continued(stream, "The quick brown fox")
        assert answer.log.text(REASONING) == "Hmm. So."

    def test_that_breaks_off_at_the_seam_loses_nothing(self) -> None:
        fault = UpstreamCut("Broke off.")
        answer, ends = continued(FakeStream([(TEXT, "brown")], fault=fault), "quick brown fox ")
        assert answer.log.text() == "quick brown fox brown"
        assert ends == [fault]

    def test_writes_nothing_more_into_an_answer_that_is_full(self) -> None:
        """Full of reasoning, while text is held back at the seam."""
        stream = FakeStream([(TEXT, "brown"), (REASONING, "x" * 35)])
        answer, _ = continued(stream, "quick brown fox ", most=50)
        assert answer.log.text() == "quick brown fox "
        assert len(answer.log.text(REASONING)) == 50 - 16

    def test_is_the_stream_in_all_else(self) -> None:
        stream = FakeStream([(TEXT, "more")])
        continuation = Continuation(stream, "text")
        assert continuation.finish_reason is None
        continuation.copy(lambda pieces: bool(list(pieces)) or True, lambda _: None)
        assert continuation.finish_reason == "stop"
        continuation.finish_reason = "length"
        assert stream.finish_reason == "length"
        assert continuation.usage("four") == ({"total_tokens": 4}, "provider")
        continuation.close()
        assert stream.closed


@pytest.mark.parametrize(("before", "ends"), [("All is said.", [None]), ("", [UpstreamEmpty])])
def test_a_model_that_has_nothing_to_add_has_ended_the_answer(
    before: str, ends: list[type[Exception] | None]
) -> None:
    got: list[Exception | None] = []
    stream = FakeStream([], fault=UpstreamEmpty("Nothing."))
    Continuation(stream, before).copy(lambda _: True, got.append)
    assert [each and type(each) for each in got] == ends


class TestAsking:
    HISTORY = [{"role": "user", "content": "Hello"}]  # noqa: RUF012 - never changed

    @pytest.mark.parametrize(
        ("style", "mark", "extra"),
        [
            ("plain", {}, {}),
            ("vllm", {}, {"add_generation_prompt": False, "continue_final_message": True}),
            ("deepseek", {"prefix": True}, {}),
        ],
    )
    def test_gives_the_model_its_own_beginning(
        self, style: str, mark: dict[str, object], extra: dict[str, object]
    ) -> None:
        beginning = {"role": "assistant", "content": "Hi, I"} | mark
        assert prefilled(self.HISTORY, "Hi, I", style) == ([*self.HISTORY, beginning], extra)
        assert len(self.HISTORY) == 1

    @pytest.mark.parametrize("text", ["", " \n"])
    def test_without_a_beginning_is_asking_anew(self, text: str) -> None:
        assert prefilled(self.HISTORY, text, "vllm") == (self.HISTORY, {})


def test_what_could_not_be_continued_was_interrupted_and_may_be_tried_again() -> None:
    error = interrupted(UpstreamBusy("The model is busy.", retry_after=3))
    assert (error.code, error.retryable, error.retry_after) == ("interrupted", True, 3)
    assert "The model is busy." in error.message
