"""The store under many hands: at the same time, in any order, and holding on to nothing."""

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from chatapp.answers.outcome import Outcome
from chatapp.conversations.ledger import Closed, Ledger, Opened
from chatapp.conversations.store import Content, Store
from chatapp.conversations.tables import calls
from chatapp.database.database import Database
from chatapp.database.schema import micros
from chatapp.errors import Conflict, InvalidRequest, NotFound
from tests.support.gunicorn import ROOT
from tests.support.hypothesis_settings import FEW
from tests.unit.conversations.test_store import ME, OTHER, YEAR, store_on

ASK = """
import sys, threading
from chatapp.database.database import Database
from chatapp.errors import Conflict
from chatapp.conversations.ledger import Closed, Ledger, Opened
from chatapp.conversations.store import Content, Store
url, conversation, name = sys.argv[1:]
database = Database(url, 2)
store = Store(database, 100, 100, Ledger(database, 1e6))
store.get("me", conversation)
print("ready", flush=True)
input()
said = []
def ask(answer):
    try:
        store.ask("me", conversation, Content(answer), answer, None)
        said.append(answer)
    except Conflict:
        said.append("conflict")
threads = [threading.Thread(target=ask, args=(f"{name}{n}",)) for n in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(*said)
"""


@pytest.mark.processes
def test_of_all_who_ask_in_one_conversation_at_once_one_wins(database_url: str) -> None:
    """Threads and processes."""
    database = Database(database_url, 2)
    store = store_on(database)
    conversation = store.create(ME)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ASK, database_url, conversation.id, f"p{n}"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(3)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [line for each in processes for line in each.communicate(timeout=60)[0].split()]
    winners = [each for each in said if each != "conflict"]
    assert len(said) == 9
    assert len(winners) == 1
    found = store.get(ME, conversation.id)
    assert (found.running, found.leaf, len(found.messages)) == (winners[0], winners[0], 2)
    database.close()


def test_deleting_while_answers_end_leaves_nothing_and_blocks_nobody(database: Database) -> None:
    store = store_on(database)
    for number in range(20):
        conversation = store.ask(ME, None, Content("one"), f"a{number}", None)
        start = threading.Barrier(3)
        actions = (
            lambda n=number: store.update(f"a{n}", content=Content("late"), status="done"),
            lambda c=conversation: store.delete(ME, c.id),
            lambda n=number: store.withdraw(f"a{n}"),
        )
        failures: list[Exception] = []

        def together(action: object, start: threading.Barrier, failures: list[Exception]) -> None:
            start.wait()
            try:
                action()  # type: ignore[operator]
            except NotFound:
                pass
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=together, args=(a, start, failures)) for a in actions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert failures == []
        with pytest.raises(NotFound):
            store.get(ME, conversation.id)
    assert store.page(ME, None, 10) == ([], None)


def test_what_comes_out_holds_no_connection(database_url: str) -> None:
    """Of one connection, nothing is taken by 50 readers who look at what they got."""
    database = Database(database_url, 1)
    store = store_on(database)
    asked = store.ask(ME, None, Content("one"), "a1", None)
    got = [(store.get(ME, asked.id), store.page(ME, None, 5), store.answer(ME, "a1"))] * 50
    store.update("a1", content=Content("x"), status="done")
    assert store.get(ME, asked.id).running is None
    for conversation, (page, _), answer in got:
        assert conversation.path()[-1] == answer
        assert page[0].id == conversation.id
    database.close()


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["create", "ask", "more", "again", "finish", "withdraw", "delete", "edit", "switch"]
        ),
        st.integers(0, 20),
    ),
    max_size=30,
)


@FEW
@given(ACTIONS)
def test_whatever_is_done_every_path_is_whole_and_one_answer_at_most_runs(  # noqa: C901 - one case each
    actions: list[tuple[str, int]],
) -> None:
    database = Database("sqlite://", migrates=True)
    store = store_on(database, messages=8)
    for number, (action, choice) in enumerate(actions):
        conversations, _ = store.page(ME, None, 100)
        mine = conversations[choice % len(conversations)] if conversations else None
        messages = list(store.get(ME, mine.id).messages) if mine else []
        message = messages[choice % len(messages)] if messages else None
        try:
            match action:
                case "create":
                    store.create(ME)
                case "ask":
                    store.ask(ME, None, Content("x" * choice * 50), f"a{number}", None)
                case "more" if mine:
                    store.ask(ME, mine.id, Content("more"), f"a{number}", None)
                case "edit" if mine and message:
                    store.ask(ME, mine.id, Content("edited"), f"a{number}", message)
                case "again" if message:
                    store.ask_again(ME, message, f"a{number}")
                case "finish" if mine and mine.running:
                    store.update(mine.running, content=Content("y" * choice), status="done")
                case "withdraw" if message:
                    store.withdraw(message)
                case "switch" if mine and message:
                    store.change(ME, mine.id, leaf=message)
                case "delete" if mine:
                    store.delete(ME, mine.id)
        except (Conflict, NotFound, InvalidRequest):
            pass
        check_books(store)
    database.close()


def check_books(store: Store) -> None:
    for each in store.page(ME, None, 100)[0]:
        found = store.get(ME, each.id)
        messages = found.messages.values()
        assert {m.parent for m in messages} <= {None, *found.messages}
        assert [m.number for m in messages] == sorted({m.number for m in messages})
        path = found.path()
        assert (path[-1].id if path else None) == found.leaf
        assert [m.role for m in path] == ["user", "assistant"] * (len(path) // 2)
        running = [m.id for m in messages if m.status == "pending"]
        assert running == ([found.running] if found.running else [])
        assert len(messages) <= 8


class TestTheLedger:
    def rows(self, database: Database) -> list[tuple[object, ...]]:
        columns = (calls.c.answer_id, calls.c.owner, calls.c.model, calls.c.outcome)
        statement = sa.select(*columns, calls.c.total_tokens).order_by(calls.c.started_at)
        return database.run(lambda c: [tuple(row) for row in c.execute(statement)])

    def test_each_answer_is_one_call_with_its_end_and_its_cost(self, database: Database) -> None:
        store = store_on(database)
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        asked = store.ask(ME, None, Content("one"), "a1", None, "m")
        store.update("a1", status="streaming", content=Content("x"))
        assert self.rows(database) == [("a1", ME, "m", None, 0)]
        for _ in range(2):
            store.update("a1", status="done", outcome=Outcome(None, usage, "provider"))
        store.ask_again(ME, "a1", "a2", "n")
        store.withdraw("a2")
        store.ask(ME, asked.id, Content("two"), "a3", None, "m")
        store.delete(ME, asked.id)
        store.update("a3", status="stopped", outcome=Outcome(None, usage, "estimated"))
        assert self.rows(database) == [
            ("a1", ME, "m", "done", 15),
            ("a2", ME, "n", "refused", 0),
            ("a3", ME, "m", "stopped", 15),
        ]

    def test_what_did_not_begin_is_no_call(self, database: Database) -> None:
        store = store_on(database)
        asked = store.ask(ME, None, Content("one"), "a1", None)
        with pytest.raises(Conflict):
            store.ask(ME, asked.id, Content("two"), "a2", None)
        assert [row[0] for row in self.rows(database)] == ["a1"]

    def test_answers_without_a_conversation_and_second_calls_count_too(
        self, database: Database
    ) -> None:
        ledger = Ledger(database, YEAR)
        begin = datetime.now(UTC) - timedelta(seconds=1)
        for status, tokens in (("interrupted", 3), ("done", 4)):
            usage = {"prompt_tokens": 0, "completion_tokens": tokens, "total_tokens": tokens}
            closed = Closed("a1", status, Outcome(usage=usage, usage_source="provider"))
            ledger.note([Opened("a1", ME, "m", micros()), closed])
        others = [Opened("a2", OTHER, None, micros()), Opened("a3", ME, None, micros())]
        ledger.note([*others, Closed("a2", "failed")])
        assert [row[3] for row in self.rows(database)] == ["interrupted", "done", "failed", None]
        assert ledger.usage_since(ME, begin) == 7
        assert ledger.usage_since(OTHER, begin) == 0
        assert ledger.usage_since(ME, datetime.now(UTC) + timedelta(seconds=1)) == 0

    def test_what_is_too_old_goes(self, database: Database) -> None:
        Ledger(database, YEAR).note([Opened("old", ME, None, micros())])
        ledger = Ledger(database, 0)
        new = Opened("new", ME, None, micros())
        ledger.note([new, Closed("new", "done")])
        assert self.rows(database) == []
