"""The event log in a database: SQLite for one machine, PostgreSQL for many."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from ...answers.outcome import RUNNING
from ...database.database import Database
from ..base import (
    MAX_ORPHANS,
    MAX_PUBLISHED,
    MAX_READ_BYTES,
    PendingMessage,
    PublishedMessage,
    Record,
    Segment,
    State,
    Written,
    before_first_message,
)
from . import statements as st


class SqlEventLog:
    """Answers, segments and publications as rows; nothing is held between two calls."""

    shared = True

    def __init__(self, database: Database) -> None:
        self._database = database
        self.fault = database.fault

    def claim(self, record: Record) -> Record:
        def work(connection: Connection) -> Record | None:
            connection.execute(st.ADD[connection.dialect.name], asdict(record))
            given = {"of": record.id, "whose": record.owner, "by_key": record.key}
            return _record(connection.execute(st.BY_ID_OR_KEY, given).first())

        while True:
            stored = self._database.run(work)
            if stored is not None:
                return stored
            # Whoever had the key gave it up between the two statements.

    def add(self, records: Sequence[Record]) -> None:
        rows = [asdict(record) for record in records]
        self._database.run(
            lambda connection: connection.execute(st.ADD[connection.dialect.name], rows)
        )

    def find(self, answer_id: str) -> Record | None:
        if "\0" in answer_id:  # PostgreSQL has no such text.
            return None
        return self._database.run(
            lambda connection: _record(connection.execute(st.FIND, {"of": answer_id}).first()),
            read_only=True,
        )

    def write(
        self,
        writer: str,
        segments: Sequence[Segment],
        states: Sequence[State],
        posts: Sequence[PendingMessage],
    ) -> Written:
        def work(connection: Connection) -> Written:
            flush = _Flush(connection, segments, states)
            flush.append(segments)
            flush.move(states)
            news = connection.execute(st.NEWS, {"by": writer}).all()
            # Last: until the commit, nobody else can publish.
            numbers = _publish(connection, posts) if posts else []
            stops = frozenset(answer_id for answer_id, stop, _ in news if stop)
            reads = {answer_id: count for answer_id, _, count in news if count}
            return Written(frozenset(flush.lost), stops, numbers, reads)

        return self._database.run(work, read_only=not (segments or states or posts))

    def read(
        self, cursors: Mapping[str, int], max_bytes: int = MAX_READ_BYTES
    ) -> tuple[dict[str, list[Segment]], frozenset[str]]:
        def work(connection: Connection) -> tuple[list[Any], frozenset[str]]:
            given = st.given_numbers(cursors)
            known = connection.execute(st.EXISTING, given).scalars()
            missing = frozenset(cursors).difference(known)
            return list(connection.execute(st.READ, given | {"room": max_bytes})), missing

        if not cursors:
            return {}, frozenset()
        rows, missing = self._database.run(work, read_only=True)
        found: dict[str, list[Segment]] = {}
        for row in rows:
            found.setdefault(row[0], []).append(Segment(*row))
        return found, missing

    def request_stop(self, answer_id: str) -> None:
        self._execute(st.ASK_TO_STOP, {"of": answer_id})

    def note_readers(self, answer_ids: Iterable[str]) -> None:
        self._execute(st.NOTE_READERS, st.given(answer_ids))

    def release(self, answer_id: str, epoch: int) -> None:
        self._execute(st.RELEASE, {"answer_id": answer_id, "in_epoch": epoch})

    def refuse(self, answer_id: str, epoch: int, refusal: bytes) -> None:
        this = {"answer_id": answer_id, "in_epoch": epoch}
        self._execute(st.REFUSE, this | {"why": refusal, "at": time.time()})

    def discard(self, answer_ids: Iterable[str]) -> None:
        given = st.given(answer_ids)
        self._database.run(lambda connection: _forget(connection, given))

    def beat(self, writer: str) -> dict[str, int]:
        def work(connection: Connection) -> dict[str, int]:
            connection.execute(st.BEAT[connection.dialect.name], {"by": writer})
            return dict(iter(connection.execute(st.BEATS)))

        return self._database.run(work)

    def beat_here(self, writer: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute(st.BEAT[connection.dialect.name], {"by": writer})

        self._database.run_here(work)

    def leave(self, writers: Iterable[str]) -> None:
        self._execute(st.LEAVE, st.given(writers))

    def orphans(self, alive: Collection[str]) -> list[Record]:
        given = {**st.given(alive), "most": MAX_ORPHANS}
        return self._database.run(
            lambda connection: [
                Record(**row) for row in connection.execute(st.ORPHANS, given).mappings()
            ],
            read_only=True,
        )

    def take(self, answer_id: str, epoch: int, writer: str) -> bool:
        this = {"answer_id": answer_id, "by": writer}

        def work(connection: Connection) -> bool:
            if connection.execute(st.TAKE, this | {"in_epoch": epoch}).rowcount:
                return True
            taken = connection.execute(st.TAKEN, this | {"in_epoch": epoch + 1})
            return taken.first() is not None

        return self._database.run(work)

    def published(self, after: int, limit: int = MAX_PUBLISHED) -> list[PublishedMessage]:
        given = {"after": after, "most": limit}
        return self._database.run(
            lambda connection: [
                PublishedMessage(*row) for row in connection.execute(st.PUBLISHED, given)
            ],
            read_only=True,
        )

    def last_published(self) -> int:
        return self._database.run(
            lambda connection: connection.execute(st.COUNTED).scalar() or 0, read_only=True
        )

    def tidy(self, answer_age: float, max_bytes: int, post_age: float, posts_kept: int) -> None:
        now = time.time()
        limits = {"before": now - answer_age, "max_bytes": max_bytes}

        def forgettable(connection: Connection) -> list[str]:
            return list(connection.execute(st.FORGETTABLE, limits).scalars())

        while ids := self._database.run(forgettable, read_only=True):
            self.discard(ids)
        up_to = self.last_published() - posts_kept
        self._execute(st.FORGET_POSTS, {"before": now - post_age, "up_to": up_to})

    def close(self) -> None:
        """The database is its owner's to close."""

    def _execute(self, statement: Any, given: dict[str, Any]) -> None:
        def work(connection: Connection) -> None:
            connection.execute(statement, given)

        self._database.run(work)


class _Flush:
    """What the segments and states of one flush do to the rows, which stay locked meanwhile."""

    def __init__(
        self, connection: Connection, segments: Sequence[Segment], states: Sequence[State]
    ) -> None:
        self.lost: set[str] = set()
        self._connection = connection
        self._answers: dict[str, tuple[int, str]] = {}
        """Epoch and status."""
        self._ends: dict[str, int] = {}
        ids = {segment.answer_id for segment in segments}
        ids.update(state.answer_id for state in states)
        if not ids:
            return
        given = st.given(ids)
        if connection.dialect.name == "postgresql":
            connection.execute(st.LOCK, given)
        for answer_id, epoch, status, end in connection.execute(st.LOCKED, given).all():
            self._answers[answer_id] = epoch, status
            self._ends[answer_id] = end

    def append(self, segments: Sequence[Segment]) -> None:
        """Add what belongs at the ends of the logs."""
        begins = self._begins(segments)
        rows: list[Segment] = []
        cuts: list[dict[str, Any]] = []
        for segment in segments:
            answer_id, epoch, first, last, _ = segment
            if answer_id in self.lost:
                continue
            known = self._answers.get(answer_id)
            end = self._ends.get(answer_id, 0)
            fits = first == end + 1 or (answer_id, first, epoch) in begins
            if known is None or known[0] != epoch or not fits:
                self.lost.add(answer_id)
            elif last <= end:
                pass  # It is there already.
            elif known[1] not in RUNNING:
                self.lost.add(answer_id)
            else:
                if first <= end:
                    cuts.append({"of": answer_id, "at": first})
                rows.append(segment)
                self._ends[answer_id] = last
        if cuts:
            self._connection.execute(st.CUT, cuts)
        if rows:
            columns = rows if self._connection.dialect.name == "sqlite" else _turned(rows)
            self._connection.exec_driver_sql(st.APPEND[self._connection.dialect.name], columns)

    def _begins(self, segments: Sequence[Segment]) -> set[tuple[str, int, int]]:
        """Where the segments begin that are written again, with their epochs."""
        again: dict[str, int] = {}
        for answer_id, _, first, _, _ in segments:
            if first <= self._ends.get(answer_id, 0):
                again[answer_id] = min(first, again.get(answer_id, first))
        if not again:
            return set()
        found = self._connection.execute(st.BEGINS, st.given_numbers(again))
        return {(answer_id, first, epoch) for answer_id, first, epoch in found}

    def move(self, states: Sequence[State]) -> None:
        """Note the statuses; an end only where the log has come to it."""
        moves: list[dict[str, Any]] = []
        ends: list[dict[str, Any]] = []
        for answer_id, epoch, status, last_event, frees_key in states:
            if answer_id in self.lost:
                continue
            known = self._answers.get(answer_id)
            if known is None or known[0] != epoch:
                self.lost.add(answer_id)
            elif known[1] not in RUNNING:
                if known[1] != status:
                    self.lost.add(answer_id)
            elif status in RUNNING:
                moves.append({"of": answer_id, "to": status})
            elif last_event != self._ends[answer_id]:
                self.lost.add(answer_id)
            else:
                end = {"of": answer_id, "to": status, "at": time.time()}
                ends.append(end | {"frees_key": frees_key})
        if moves:
            self._connection.execute(st.MOVE, moves)
        if ends:
            self._connection.execute(st.END, ends)


def _turned(rows: list[Segment]) -> tuple[list[Any], ...]:
    """Columns of rows: PostgreSQL takes all of them as the arguments of one statement."""
    return tuple(list(column) for column in zip(*rows, strict=True))


def _publish(connection: Connection, posts: Sequence[PendingMessage]) -> list[int]:
    more = {"more": len(posts)}
    last = connection.execute(st.COUNT, more).scalar()
    if last is None:
        connection.execute(
            st.BEGIN_COUNT[connection.dialect.name], {"start": before_first_message()}
        )
        last = connection.execute(st.COUNT, more).scalar_one()
    numbers = list(range(last - len(posts) + 1, last + 1))
    now = time.time()
    connection.execute(
        st.PUBLISH,
        [
            PublishedMessage(number, *post, now)._asdict()
            for number, post in zip(numbers, posts, strict=True)
        ],
    )
    return numbers


def _forget(connection: Connection, given: dict[str, str]) -> None:
    # The records first: a flush that is at it has then written its segments, or finds no record.
    connection.execute(st.FORGET, given)
    connection.execute(st.FORGET_LOGS, given)


def _record(row: Any) -> Record | None:
    return None if row is None else Record(**row._mapping)
