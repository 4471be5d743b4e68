"""What is written of a question and its answer in one transaction is all there, or nothing is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from chatapp.answers.outcome import Outcome, Status
from chatapp.conversations import queries, transactions
from chatapp.conversations.ledger import Ledger
from chatapp.conversations.model import Content, Conversation
from chatapp.conversations.tables import calls
from chatapp.database.database import Database
from chatapp.errors import Interrupted
from tests.support.hypothesis_settings import FEW, TEXTS

ME = "me"


class Desk:
    """A conversation with one question; each step in a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self.database, self.ledger = database, Ledger(database, 1e9)
        self.talk = Conversation(id="talk", owner=ME, title=None)
        question, answer = self.talk.ask(Content("What?"), "a1", None, "m")
        answer.opens = True

        def work(connection: sa.Connection) -> None:
            connection.execute(queries.INSERT, queries.to_row(self.talk))
            transactions.enter(connection, self.ledger, None, self.talk, question, answer)

        database.run(work)

    def update(self, **fields: Any) -> str | None:
        return self.database.run(lambda c: transactions.update(c, self.ledger, "a1", fields))

    def stored(self) -> Conversation | None:
        return self.database.run(
            lambda c: queries.of_message(c, queries.OF_MESSAGE, "a1"), read_only=True
        )

    def calls(self) -> list[tuple[str, str | None]]:
        statement = sa.select(calls.c.answer_id, calls.c.outcome)
        rows = self.database.run(lambda c: c.execute(statement).all(), read_only=True)
        return [tuple(row) for row in rows]


@pytest.fixture
def desk(migrated_sqlite: Path, tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "chat.db").write_bytes(migrated_sqlite.read_bytes())
    database = Database(f"sqlite:///{tmp_path / 'chat.db'}", 2)
    yield Desk(database)
    database.close()


def test_a_question_is_entered_with_its_answer_and_its_call(desk: Desk) -> None:
    assert desk.stored() == desk.talk
    assert desk.calls() == [("a1", None)]


def test_an_end_frees_the_conversation_and_closes_the_call(desk: Desk) -> None:
    desk.update(status=Status.FAILED, outcome=Outcome(error=Interrupted("…")))
    stored = desk.stored()
    assert stored
    assert (stored.running, stored.messages["a1"].status) == (None, "failed")
    assert type(stored.messages["a1"].outcome.error) is Interrupted
    assert desk.calls() == [("a1", "failed")]


def test_what_is_not_an_end_leaves_it_waiting(desk: Desk) -> None:
    desk.update(content=Content("so far"))
    stored = desk.stored()
    assert stored
    assert (stored.running, stored.messages["a1"].content.text) == ("a1", "so far")
    assert desk.calls() == [("a1", None)]


def test_a_fault_in_the_middle_leaves_all_as_it_was(desk: Desk) -> None:
    def fails(connection: sa.Connection) -> None:
        transactions.update(connection, desk.ledger, "a1", {"status": Status.DONE})
        raise LookupError

    with pytest.raises(LookupError):
        desk.database.run(fails)
    assert desk.stored() == desk.talk
    assert desk.calls() == [("a1", None)]


def test_taking_back_the_question_that_opened_it_takes_the_conversation(desk: Desk) -> None:
    assert desk.database.run(lambda c: transactions.take_back(c, "a1")) == "talk"
    assert desk.stored() is None
    assert desk.database.run(lambda c: transactions.take_back(c, "a1")) is None
    assert desk.calls() == [("a1", None)], "what may be billed stays"


@FEW
@given(TEXTS | st.text(st.characters(), max_size=20))
def test_a_cleaned_text_is_one_that_every_database_takes(text: str) -> None:
    clean = queries.clean(text)
    clean.encode()
    assert "\0" not in clean
    assert (len(clean), queries.clean(clean)) == (len(text), clean)
    assert [a for a, b in zip(text, clean, strict=True) if a != b and a != "\0"] == [
        each for each in text if "\ud800" <= each <= "\udfff"
    ]


@pytest.mark.parametrize(
    ("query", "found"),
    [("50%", True), ("5_%", False), ("%", True), ("\\", False), ("GRÜN", True), ("grün", True)],
)
def test_a_search_takes_every_character_as_it_is(desk: Desk, query: str, found: bool) -> None:
    desk.update(content=Content("It is 50% grün."))
    page = desk.database.run(lambda c: queries.page_of(c, ME, None, 9, query), read_only=True)
    assert bool(page) is found
