"""The ledger knows what runs and who makes it, and estimates what nobody has counted."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from chatapp.answers.outcome import Outcome
from chatapp.answers.slot import Slot
from chatapp.conversations.ledger import Closed, Ledger, Opened
from chatapp.conversations.ledger_writer import LedgerWriter
from chatapp.conversations.store import Content, Store
from chatapp.conversations.tables import calls
from chatapp.database import migrations
from chatapp.database.database import Database
from chatapp.database.migrations import upgrade
from chatapp.database.schema import metadata
from chatapp.errors import Interrupted, StorageUnavailable, TooManyRunning, UpstreamBusy
from tests.support.event_logs import together

ME, OTHER = "chat/user:me", "chat/user:other"
CUT = Outcome(error=Interrupted("It went down."))
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def ledger_of(database: Database, worker: str = "here") -> Ledger:
    return Ledger(database, 1e9, lambda: worker)


def call(answer_id: str, owner: str = ME, prompt: int = 0) -> Opened:
    return Opened.now(answer_id, owner, "m", prompt, owner)


def tokens(database: Database) -> list[tuple[Any, ...]]:
    """Outcome, source and sum of each entry that has ended."""
    ended = sa.select(calls.c.outcome, calls.c.usage_source, calls.c.total_tokens)
    ended = ended.where(calls.c.ended_at.is_not(None)).order_by(calls.c.started_at)
    return database.run(lambda c: [tuple(row) for row in c.execute(ended)], read_only=True)


class TestHowManyRun:
    def test_of_many_at_once_as_many_are_admitted_as_may_be(self, database: Database) -> None:
        """Histories and conversations together, whichever worker they come to."""
        ledger = ledger_of(database)
        store = Store(database, 100, 100, ledger)

        def history(number: int) -> bool:
            return ledger.admit([], call(f"history{number}"), Slot(ME, 5))

        def question(number: int) -> bool:
            try:
                store.ask(ME, None, Content("Hi"), f"answer{number}", None, slot=Slot(ME, 5))
            except TooManyRunning:
                return False
            return True

        kinds: list[Callable[[int], bool]] = [history, question]
        admitted = together(12, lambda number: kinds[number % 2](number))
        assert admitted.count(True) == 5
        assert ledger.admit([], call("theirs", OTHER), Slot(OTHER, 5))
        assert len(store.page(ME, None, 100)[0]) == sum(admitted[1::2])

    def test_one_that_has_ended_here_makes_room_at_once(self, database: Database) -> None:
        """Also while its end waits to be entered with others."""
        ledger = ledger_of(database)
        ledger.note([call("a")])
        writer = LedgerWriter(ledger)
        writer._entries = [Closed("a", "done", running_key=ME)]
        writer.call_begins(call("b"), Slot(ME, 1))
        with pytest.raises(TooManyRunning, match="An answer is being written"):
            writer.call_begins(call("c"), Slot(ME, 1))

    def test_a_call_that_goes_on_counts_once(self, database: Database) -> None:
        ledger = ledger_of(database)
        ledger.note([call("a"), Closed("a", "tool_calls"), call("a")])
        assert ledger.admit([], call("b"), Slot(ME, 2))
        assert not ledger.admit([], call("c"), Slot(ME, 2))

    def test_while_the_database_is_away_nobody_is_refused_and_nothing_counts_twice(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ledger = ledger_of(database)
        admit = ledger.admit

        def lost_its_answer(*args: Any) -> bool:
            admit(*args)
            raise StorageUnavailable("It went away.")

        monkeypatch.setattr(ledger, "admit", lost_its_answer)
        writer = LedgerWriter(ledger)
        writer.call_begins(call("a"), Slot(ME, 1))
        writer.call_ends(Closed("a", "done", Outcome(usage=USAGE, usage_source="provider")))
        writer.close(30)
        assert tokens(database) == [("done", "provider", 15)]


class TestACallThatWasCut:
    @pytest.mark.parametrize(
        ("outcome", "fields", "expected"),
        [
            (CUT, {"content": Content("x" * 40), "reasoning": "y" * 8}, ("estimated", 13)),
            (CUT, {}, ("estimated", 1)),
            (Outcome("stopped"), {"content": Content("x" * 40)}, ("estimated", 11)),
            (Outcome(None, USAGE, "provider", CUT.error), {}, ("provider", 15)),
            (Outcome(error=UpstreamBusy("no")), {}, (None, 0)),
        ],
        ids=["its text", "without any", "stopped", "counted", "refused"],
    )
    def test_costs_its_prompt_and_what_was_said(
        self, database: Database, outcome: Outcome, fields: Any, expected: tuple[Any, ...]
    ) -> None:
        store = Store(database, 100, 100, ledger_of(database))
        store.ask(ME, None, Content("Hi"), "a", None)
        store.update("a", status="failed", outcome=outcome, **fields)
        assert tokens(database) == [("failed", *expected)]

    def test_of_an_answer_without_a_conversation(self, database: Database) -> None:
        ledger = ledger_of(database)
        ledger.note([call("a", prompt=7), Closed("a", "interrupted", said=5), call("a", prompt=3)])
        ledger.note([Closed("a", "done", Outcome(usage=USAGE, usage_source="provider"))])
        assert tokens(database) == [("interrupted", "estimated", 12), ("done", "provider", 15)]


def test_what_a_worker_has_left_open_is_found_by_the_workers_name(database: Database) -> None:
    ledger_of(database, "dead").note([call("a"), call("b"), call("theirs", "other/user:x")])
    ledger_of(database, "there").note([call("c"), Closed("b", "done")])
    ledger = ledger_of(database)
    assert ledger.writers("chat/") == {"dead", "there"}
    assert ledger.open_of({"dead", "gone"}, "chat/") == {"a"}
    later = datetime.now(UTC) + timedelta(minutes=1)
    assert ledger.open_before(later, "chat/") == {"a", "c"}
    assert ledger.open_before(later - timedelta(hours=1), "chat/") == set()


def test_entries_of_an_earlier_version_stay_and_count_for_nobody(database: Database) -> None:
    """The columns come to a database that has been used."""

    def go_back(connection: sa.Connection) -> None:
        metadata.drop_all(connection)
        connection.exec_driver_sql(f"DROP TABLE {migrations.VERSION_TABLE}")
        upgrade.upgrade(connection, migrations.VERSION_TABLE, "0001")
        connection.exec_driver_sql(
            "INSERT INTO chatapp_calls (id, answer_id, owner, started_at, total_tokens)"
            f" VALUES ('old', 'a', '{ME}', 1700000000000000, 0)"
        )
        connection.exec_driver_sql(
            "INSERT INTO chatapp_answers (id, owner, created_at, epoch, status, stop, last_event)"
            f" VALUES ('a', '{ME}', 0, 1, 'pending', false, 0)"
        )

    database.run(go_back)
    database.migrate()
    assert database.run(migrations.version) == migrations.HEAD
    ledger = ledger_of(database)
    assert ledger.admit([], call("b"), Slot(ME, 1))
    assert ledger.open_before(datetime.now(UTC) - timedelta(hours=1), "chat/") == {"a"}
    ledger.note([Closed("a", "done")])
    assert ("done", None, 0) in tokens(database)
    assert not ledger.admit([], call("c"), Slot(ME, 1))
