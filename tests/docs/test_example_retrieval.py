"""Answers from a folder of Markdown files: `examples/retrieval`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from examples.retrieval.search import Index
from tests.support.client import Client, joined
from tests.support.gunicorn import ROOT, Gunicorn
from tests.support.upstream import FakeUpstream, speak

HANDBOOK = ROOT / "examples/retrieval/handbook"


@pytest.fixture
def client(serve: Callable[..., Gunicorn]) -> Client:
    return Client(serve(app="examples.retrieval.app:app").url)


def excerpts(upstream: FakeUpstream) -> str:
    """What the hook has put before the last question."""
    first = upstream.calls[-1].json["messages"][0]
    assert first["role"] == "system"
    return str(first["content"])


def test_the_model_gets_the_paragraphs_that_fit(client: Client, upstream: FakeUpstream) -> None:
    upstream.script = speak("30 days, says holidays.md.")
    stream = client.ask_streaming("How many holidays are there in a year?")
    assert joined(stream.all()) == "30 days, says holidays.md."
    assert "[holidays.md: Holidays]\nEverybody has 30 days" in excerpts(upstream)
    assert upstream.calls[-1].prompt == "How many holidays are there in a year?"


def test_a_question_is_understood_from_the_one_before(
    client: Client, upstream: FakeUpstream
) -> None:
    stream = client.ask_streaming("Who pays for meals?")
    conversation = stream.all()[0].data["conversation_id"]
    client.ask_streaming("And how much?", conversation_id=conversation).all()
    assert "28 euros" in excerpts(upstream)


def test_a_question_that_nothing_fits_gets_no_excerpt(
    client: Client, upstream: FakeUpstream
) -> None:
    client.ask_streaming("Xylophone?").all()
    assert "no excerpt fits" in excerpts(upstream)


def test_excerpts_are_not_part_of_the_conversation(client: Client) -> None:
    conversation = client.ask_streaming("Who pays for meals?").all()[0].data["conversation_id"]
    kept = client.get(f"/api/conversations/{conversation}").json["messages"]
    assert [message["role"] for message in kept] == ["user", "assistant"]
    assert kept[0]["content"] == "Who pays for meals?"


@pytest.mark.parametrize(
    ("question", "heading"),
    [
        ("When must I call in sick?", "Holidays / Illness"),
        ("receipt", "Travel / Expenses"),
        ("酒店可以报销多少？", "Travel / 出差住宿"),
    ],
)
def test_the_best_paragraph_comes_first(question: str, heading: str) -> None:
    assert Index(HANDBOOK).best(question, 3)[0].heading == heading


def test_rare_terms_and_short_paragraphs_count_more(tmp_path: Path) -> None:
    rare = "zebra " + "and many other words " * 20
    (tmp_path / "a.md").write_text(f"common\n\n{rare}\n\nzebra common\n\ncommon one\n\nmore\n")
    found = [each.text for each in Index(tmp_path).best("zebra common", 9)]
    assert found[0] == "zebra common"
    assert rare.strip() in found


def test_an_empty_folder_finds_nothing(tmp_path: Path) -> None:
    assert Index(tmp_path).best("anything", 3) == []
