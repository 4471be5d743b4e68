"""A conversation is called by words, whatever is around them."""

import pytest
from hypothesis import given

from chatapp.conversations.titles import MAX_TITLE_CHARS, title_of, title_of_exchange
from tests.support.hypothesis_settings import MANY, RICH, TEXTS


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# Hello **world**", "Hello world"),
        ("```python\nprint(1)\n```\nWhat does this do?", "What does this do?"),
        ("~~~\n" + "x = 1\n" * 1000 + "~~~\nAnd this?", "And this?"),
        ("What does `__init__()` do?", "What does __init__() do?"),
        ("[The page](https://example.org/x) of **_mine_**", "The page of mine"),
        ("![A tree](tree.png)", "A tree"),
        ("> quoted\n> twice\n\n- one\n- two\n1. three", "quoted twice one two three"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "a b 1 2"),
        ("<b>bold</b> and<br>new<!-- hidden -->", "bold and new"),
        ("\u200b\ufeff\u202eHello\u00ad,\u2060 you\u3164", "Hello, you"),
        ("👩\u200d💻 codes", "👩\u200d💻 codes"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("5 * 3 and 2*4*5", "5 * 3 and 2*4*5"),
        ("my_own_name", "my_own_name"),
        ("What does <div> do, and C#?", "What does <div> do, and C#?"),
        ("a < b and c > d", "a < b and c > d"),
        ("```\nonly code\n```", "only code"),
        ("**", "**"),
        ("\u200b", ""),
    ],
)
def test_words_without_markup_code_and_what_does_not_show(text: str, title: str) -> None:
    assert title_of(text) == title


@pytest.mark.parametrize(
    ("question", "answer", "title"),
    [
        ("hi", "**Sure!** More.", "hi – Sure!"),
        ("hi", "```py\nx = 1\n```\n### This is it. More", "hi – This is it."),
        ("hi", "```py\nx = 1\n```", "hi"),
        (None, "Hello there. More.", "Hello there."),
        (None, "```x```", "x"),
        (None, "\u200b", ""),
    ],
)
def test_the_first_sentence_of_an_answer(question: str | None, answer: str, title: str) -> None:
    assert title_of_exchange(question, answer) == title


@MANY
@given(TEXTS | RICH, TEXTS | RICH)
def test_a_title_is_one_short_line(question: str, answer: str) -> None:
    for title in (title_of(question), title_of_exchange(title_of(question), answer)):
        assert len(title) <= MAX_TITLE_CHARS
        assert title == " ".join(title.split())
