"""The estimate of tokens depends on the text alone, however it is cut and whatever is beside it."""

from typing import Any

import pytest
from hypothesis import given

from chatapp.answers.text.tokens import estimated_tokens, texts_of
from tests.support.hypothesis_settings import CUTS, FEW, TEXTS, parts_of


@FEW
@given(TEXTS, CUTS)
def test_texts_in_pieces_count_as_in_one(text: str, cuts: list[int]) -> None:
    assert estimated_tokens(parts_of(text, cuts)) == estimated_tokens([text])


@FEW
@given(TEXTS, TEXTS)
def test_more_text_never_counts_less_and_any_text_counts(text: str, more: str) -> None:
    assert estimated_tokens([text, more]) >= estimated_tokens([text])
    assert (estimated_tokens([text]) > 0) == bool(text)


def test_half_of_a_pair_counts_and_is_no_error() -> None:
    assert estimated_tokens(["\ud83d"]) == 1


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("plain", ["plain"]),
        (None, []),
        ([{"type": "text", "text": "a"}, "b"], ["a", "b"]),
        ([{"type": "image_url", "image_url": {"url": "data:" + "x" * 300_000}}], []),
        ([{"type": "text", "text": 7}, None, {"text": None}], []),
        ({"text": "no list"}, ["no list"]),
    ],
)
def test_only_texts_count_of_a_message(content: Any, texts: list[str]) -> None:
    """What a picture costs, the model decides."""
    assert list(texts_of({"role": "user", "content": content})) == texts
    assert list(texts_of({"role": "user"})) == []
