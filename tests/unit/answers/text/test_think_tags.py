"""Reasoning in the text is told apart wherever the pieces are cut, and only at the beginning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.answers.text.think_tags import TAGS, ThinkTags, split_at_lone_end
from tests.support.hypothesis_settings import CUTS, MANY, parts_of

SPACE = st.text(" \n", max_size=3)
WORDS = st.text("ab<>/thinkT[]◁▷ \n", max_size=12)


def split(parts: list[str], opened: bool = False) -> tuple[str, str, ThinkTags]:
    tags = ThinkTags(opened, keep=True)
    told = [tags.split(part) for part in parts] + [tags.rest()]
    return "".join(each for each, _ in told), "".join(each for _, each in told), tags


@pytest.mark.parametrize("tag", TAGS)
def test_each_kind_of_tag(tag: str) -> None:
    whole = f"{tag}\nTwo and two.\n{TAGS[tag]}\n\nFour."
    assert split([whole])[:2] == ("Two and two.", "Four.")


@pytest.mark.parametrize(
    ("whole", "reasoning", "text"),
    [
        ("Four.", "", "Four."),
        (" \n Four.", "", " \n Four."),
        ("", "", ""),
        ("\n", "", "\n"),
        ("<think></think>Four.", "", "Four."),
        ("<think>\n\n</think>\n\nFour.", "", "Four."),
        ("\n<think>a</think>\n<think>b</think>\nFour.", "ab", "Four."),
        ("<think>cut", "cut", ""),
        ("<think>cut\n</thi", "cut\n</thi", ""),
        ("<think>a</think>", "a", ""),
        ("<think>a</think>\n", "a", ""),
        ("<think>a </thinking> b</think>c", "a </thinking> b", "c"),
        ("<thin air", "", "<thin air"),
        ("<thi", "", "<thi"),
        ("a <think>b</think>", "", "a <think>b</think>"),
        ("`<think>`", "", "`<think>`"),
    ],
)
def test_what_is_reasoning_and_what_is_text(whole: str, reasoning: str, text: str) -> None:
    for size in (1, 3, 100):
        parts = [whole[at : at + size] for at in range(0, len(whole), size)]
        assert split(parts)[:2] == (reasoning, text)


@MANY
@given(SPACE, st.sampled_from(["", *TAGS]), WORDS, st.booleans(), WORDS, CUTS, st.booleans())
def test_any_cut_gives_the_same(
    before: str, tag: str, inside: str, ended: bool, after: str, cuts: list[int], opened: bool
) -> None:
    whole = before + tag + inside + (TAGS.get(tag, "</think>") if ended else "") + after
    reasoning, text, tags = split([whole], opened)
    assert split(parts_of(whole, cuts), opened)[:2] == (reasoning, text)
    if not tags.over and not text:
        return
    assert whole.rstrip().endswith(text.rstrip()) or opened
    assert whole.startswith(tags.raw)


@MANY
@given(WORDS, CUTS)
def test_a_model_that_has_been_opened_and_does_not_think_has_answered(
    whole: str, cuts: list[int]
) -> None:
    if "</think>" not in whole:
        assert split(parts_of(whole, cuts), opened=True)[1] == whole.strip()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Hm.\n</think>\n\nFour.", ("Hm.", "Four.")),
        ("Hm.</think>\nFour.", ("Hm.", "Four.")),
        ("</think>Four.", ("", "Four.")),
        ("Hm.\n</think>a </think> b", ("Hm.", "a </think> b")),
        ("The tag `</think>` ends it.", None),
        ("Write <think> and </think>.", None),
        ("```\n<think>\na\n</think>\n```", None),
        ("Four.", None),
    ],
)
def test_an_end_that_nothing_has_opened(text: str, parts: tuple[str, str] | None) -> None:
    assert split_at_lone_end(text) == parts
