"""Words are whole on both sides of a cut."""

import pytest
from hypothesis import given

from chatapp.answers.text.words import cuts_word, last_word_boundary
from tests.support.hypothesis_settings import RICH


@pytest.mark.parametrize(
    ("before", "after", "cuts"),
    [
        ("Hel", "lo", True),
        ("Hello", " world", False),
        ("Hello ", "world", False),
        ("Hello,", "world", True),
        ("don", "'t", True),
        ("你", "好", False),
        ("Python", "是", False),
        ("カ", "タ", False),
        ("안", "녕", True),
        ("３", "．１", False),
        ("１", "２", True),
        ("\r", "\n", True),
        ("e", "\u0301", True),
        ("か", "\u3099", True),
        ("ｶ", "ﾞ", True),
        ("葛", "\U000e0100", True),
        ("👩", "\u200d👧", True),
        ("👩\u200d", "㊗", True),
        ("👍", "🏽", True),
        ("🇩", "🇪", True),
        ("㊗", "\ufe0f", True),
        ("好", "👍", False),
        ("\ud83d", "\ude00", True),
    ],
)
def test_cuts_word(before: str, after: str, cuts: bool) -> None:
    assert cuts_word(before, after) is cuts


@pytest.mark.parametrize(
    ("text", "boundary"),
    [
        ("", 0),
        ("a", 0),
        ("Hello", 0),
        (" world", 0),
        ("Hello world", 5),
        ("Hello  world", 5),
        ("Hello ", 5),
        ("one two three", 7),
        ("你好", 1),
        ("用Python", 1),
        ("Python用", 6),
        ("foo\nbar", 4),
        ("foo\r\nbar", 5),
        ("foo\r\n", 3),
        ("好e\u0301", 1),
    ],
)
def test_last_word_boundary(text: str, boundary: int) -> None:
    assert last_word_boundary(text) == boundary


@given(RICH)
def test_the_last_word_boundary_cuts_no_word_and_every_later_cut_does_or_parts_white_space(
    text: str,
) -> None:
    boundary = last_word_boundary(text)
    assert boundary == 0 or 0 < boundary < len(text)
    assert boundary == 0 or not cuts_word(text[:boundary], text[boundary:])
    for later in range(boundary + 1, len(text)):
        assert text[later - 1].isspace() or cuts_word(text[:later], text[later:])
