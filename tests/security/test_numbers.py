"""No number of an upstream's poisons the accounts, and no row that is refused holds others up."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import example, given
from hypothesis import strategies as st

from chatapp.answers.outcome import Outcome, Status
from chatapp.answers.slot import Slot
from chatapp.conversations.ledger import Closed, Ledger, Opened
from chatapp.conversations.ledger_writer import LedgerWriter
from chatapp.conversations.store import Store
from chatapp.conversations.tables import calls
from chatapp.database.database import Database
from chatapp.database.schema import micros
from chatapp.errors import StorageUnavailable
from chatapp.eventlog import PendingMessage
from chatapp.eventlog.sql.backend import SqlEventLog
from chatapp.runtime.retry_queue import write_apart
from chatapp.upstream.chunks import ChunkReader
from tests.support.hypothesis_settings import FEW
from tests.support.one_chat import OneChat
from tests.support.replication import Desk, begun, copy_of, end, write
from tests.support.upstream import Call, FakeUpstream

MOST = 10**12
COUNTS = (
    2**63,
    2**64,
    10**400,
    -1,
    -(2**63),
    0,
    1,
    1.5,
    -0.5,
    1e300,
    True,
    None,
    "7",
    "x",
    "1e400",
    [],
    {},
)
RAW = (b"NaN", b"Infinity", b"-Infinity", b"1e400", b"1e999999999", b"9" * 5000, b"-0", b"0.4")
NAMES = ("prompt_tokens", "completion_tokens", "total_tokens")
NO_TEXT = "\ud800"
"""Half a character, which no database takes."""
COUNT = st.sampled_from(COUNTS) | st.integers() | st.floats() | st.text(max_size=5)


def usage_of(raw: bytes) -> dict[str, int] | None:
    """What is understood of a chunk's `usage`, after one that says an answer."""
    reader = ChunkReader()
    reader.read(b'{"choices":[{"index":0,"delta":{"content":"Hi"}}]}', [])
    reader.read(b'{"choices":[],"usage":%b}' % raw, [])
    return reader.usage


def check(usage: dict[str, int] | None) -> None:
    if usage is not None:
        assert tuple(usage) == NAMES
        assert all(type(each) is int and 0 <= each <= MOST for each in usage.values())
        assert usage["total_tokens"] > 0


class TestUsage:
    @FEW
    @given(st.dictionaries(st.sampled_from(NAMES), COUNT))
    @example({})
    @example({"total_tokens": 2**63})
    def test_of_any_numbers_is_within_bounds_or_none(self, given_usage: dict[str, Any]) -> None:
        check(usage_of(json.dumps(given_usage).encode()))

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("raw", RAW, ids=lambda raw: raw[:12].decode())
    def test_of_numbers_that_json_has_not_too(self, name: str, raw: bytes) -> None:
        check(usage_of(b'{"%b":%b}' % (name.encode(), raw)))

    @pytest.mark.parametrize(
        "told",
        [
            {},
            dict.fromkeys(NAMES, 0),
            dict.fromkeys(NAMES),
            {"prompt_tokens": -5, "completion_tokens": -1, "total_tokens": -6},
            {"total_tokens": "many"},
            {"completion_tokens_details": {"reasoning_tokens": 5}},
            [],
            "x",
            7,
        ],
        ids=repr,
    )
    def test_that_says_nothing_is_none(self, told: Any) -> None:
        assert usage_of(json.dumps(told).encode()) is None

    def test_that_says_something_is_clamped(self) -> None:
        told = {"prompt_tokens": 2**63, "completion_tokens": -3, "total_tokens": 1.5}
        assert usage_of(json.dumps(told).encode()) == {
            "prompt_tokens": MOST,
            "completion_tokens": 0,
            "total_tokens": MOST,
        }

    def test_that_was_told_is_not_taken_back_by_one_that_says_nothing(self) -> None:
        reader = ChunkReader()
        for count in (7, 0):
            reader.read(json.dumps({"choices": [], "usage": {"total_tokens": count}}).encode(), [])
        assert reader.usage == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 7}

    @pytest.mark.parametrize(("raw", "source"), [(b"9" * 19, "provider"), (b"0", "estimated")])
    def test_is_recorded_with_where_it_is_from(
        self,
        start_chat: Callable[..., OneChat],
        upstream: FakeUpstream,
        raw: bytes,
        source: str,
    ) -> None:
        def script(call: Call) -> None:
            call.head()
            call.text("Hi")
            call.send(b'data: {"choices":[],"usage":{"total_tokens":%b}}\n\n' % raw)
            call.finish(usage=False)

        upstream.script = script
        chat = start_chat()
        answer = chat.ask()
        chat.kept(answer)
        assert answer.outcome.usage_source == source
        check(answer.outcome.usage)


class Refusing:
    """An event log that refuses all batches with events of one answer."""

    def __init__(self, log: SqlEventLog, answer_id: str) -> None:
        self.log = log
        self.answer_id = answer_id

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)

    def write(self, writer: str, segments: Any, states: Any, posts: Any) -> Any:
        if any(segment.answer_id == self.answer_id for segment in segments):
            raise ValueError("refused")
        return self.log.write(writer, segments, states, posts)


def closed(answer_id: str, total: Any, key: str | None = None) -> Closed:
    return Closed(answer_id, "done", Outcome(usage={"total_tokens": total}), running_key=key)


class TestRows:
    def test_of_the_ledger_hold_large_counts(self, database: Database) -> None:
        ledger = Ledger(database, max_age=1e9)
        ledger.note([Opened("a", "o", "m", micros()), closed("a", MOST)])
        [total] = database.run(lambda c: list(c.execute(sa.select(calls.c.total_tokens)).scalars()))
        assert total == MOST

    @pytest.mark.parametrize("bad", [2**63, NO_TEXT], ids=["number", "text"])
    def test_of_the_ledger_that_are_refused_hold_no_others_up(
        self, database: Database, bad: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        ledger = LedgerWriter(Ledger(database, max_age=1e9))
        for name in "abcde":
            model = bad if name == "b" and bad is NO_TEXT else "m"
            opened = Opened.now(name, "o", model, 1)
            ledger.call_goes_on(Closed("none", "refused"), opened)
        ledger.call_ends(closed("a", 1))
        ledger.call_ends(closed("c", bad if bad is not NO_TEXT else 1))
        ledger.call_ends(closed("e", 5))
        ledger.close(20)
        rows = database.run(
            lambda c: dict(iter(c.execute(sa.select(calls.c.answer_id, calls.c.total_tokens))))
        )
        expected = {"a": 1, "b": 0, "c": 0, "d": 0, "e": 5}
        if bad is NO_TEXT:
            del expected["b"]
            expected["c"] = 1
        assert rows == expected
        assert "can't be stored" in caplog.text
        unfinished = database.run(
            lambda c: set(c.scalars(sa.select(calls.c.answer_id).where(calls.c.ended_at.is_(None))))
        )
        assert unfinished == {"b", "d"} & set(rows)

    def test_that_wait_and_are_refused_do_not_keep_the_next_question_out(
        self, database: Database
    ) -> None:
        ledger = LedgerWriter(Ledger(database, max_age=1e9))
        slot = Slot("o", 1)
        ledger.call_begins(Opened.now("a", "o", "m", 1, "o"), slot)
        ledger.call_ends(closed("a", 2**63, "o"))
        ledger.call_begins(Opened.now("b", "o", "m", 1, "o"), slot)
        ledger.close(20)

    @FEW
    @given(st.lists(st.booleans(), max_size=20))
    def test_of_any_batch_are_written_but_the_refused_ones(self, good: list[bool]) -> None:
        written: list[int] = []
        settled: list[int] = []

        def write_all(items: Any) -> None:
            if not all(good[item] for item in items):
                raise ValueError("refused")
            written.extend(items)

        logging.disable(logging.ERROR)
        try:
            refused = write_apart(write_all, range(len(good)), settled.append)
        finally:
            logging.disable(logging.NOTSET)
        assert written == [n for n, each in enumerate(good) if each]
        assert refused == [n for n, each in enumerate(good) if not each]
        assert sum(settled) == len(good)

    @pytest.mark.parametrize("refused", ["record", "events", "publication"])
    def test_of_the_event_log_that_are_refused_hold_no_others_up(
        self, database: Database, refused: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        answers = [begun(), begun(), begun()]
        log = SqlEventLog(database)
        desk = Desk(Refusing(log, answers[1].id) if refused == "events" else log)
        if refused == "record":
            answers[1].model = NO_TEXT
        for answer in answers:
            desk.replicator.watch(answer, claimed=False)
            write(answer, "Hi")
            end(answer)
        for name in ("a", NO_TEXT if refused == "publication" else "b", "c"):
            desk.replicator.post(PendingMessage("o", name, b"1"))
        desk.flush()
        desk.flush()
        assert desk.replicator.behind == 0
        kept = answers if refused == "publication" else [answers[0], answers[2]]
        assert [copy_of(log, each).log.text() for each in kept] == ["Hi"] * len(kept)
        told = [each.event for each in log.published(0)]
        assert told == [name for name in "abc" if name != "b" or refused != "publication"]
        assert "can't be stored" in caplog.text

    def test_of_a_batch_wait_where_the_storage_is_down(self) -> None:
        def write_all(_items: Any) -> None:
            raise StorageUnavailable("down")

        with pytest.raises(StorageUnavailable):
            write_apart(write_all, [1, 2])


def test_an_answer_that_can_t_be_stored_frees_its_conversation(
    start_chat: Callable[..., OneChat], monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = start_chat()
    update = Store.update

    def refuses_texts(self: Store, answer_id: str, **fields: Any) -> str | None:
        if "content" in fields:
            raise sa.exc.DataError("UPDATE", {}, ValueError("out of range"))
        return update(self, answer_id, **fields)

    monkeypatch.setattr(Store, "update", refuses_texts)
    answer = chat.ask()
    assert chat.kept(answer).status == Status.FAILED
    monkeypatch.undo()
    chat.store.get(answer.owner, answer.conversation_id or "").check_free()
