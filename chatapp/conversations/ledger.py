"""One entry per upstream call, however it ended: everything that may be billed.

Entries outlive their conversations.
"""

import hashlib
import itertools
import secrets
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ..answers.outcome import Outcome
from ..answers.slot import Slot
from ..answers.text.tokens import estimated_tokens, estimated_usage
from ..database.database import Database
from ..database.schema import micros
from ..errors import Interrupted
from .tables import calls

PRUNE_SECONDS: Final = 3600.0
"""Seconds between removals of old entries."""

RUNNING_LOCKS: Final = 0x63686174
"""The class of PostgreSQL's advisory locks on running keys: any constant."""

_OPEN: Final = {
    "sqlite": sqlite.insert(calls).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(calls).on_conflict_do_nothing(),
}
_IS_OPEN: Final = calls.c.ended_at.is_(None)
_CLOSE: Final = sa.update(calls).where(calls.c.answer_id == sa.bindparam("of_answer"), _IS_OPEN)
_PROMPT: Final = sa.select(calls.c.prompt_tokens).where(
    calls.c.answer_id == sa.bindparam("of_answer"), _IS_OPEN
)
_PRUNE: Final = sa.delete(calls).where(calls.c.started_at < sa.bindparam("before"))
_RENAME: Final = (
    sa.update(calls)
    .where(calls.c.owner == sa.bindparam("the_owner"))
    .values(owner=sa.bindparam("pseudonym"))
)
_SUM: Final = sa.select(sa.func.coalesce(sa.func.sum(calls.c.total_tokens), 0)).where(
    calls.c.owner == sa.bindparam("owner"), calls.c.started_at >= sa.bindparam("since")
)
_LOCK: Final = sa.select(
    sa.func.pg_advisory_xact_lock(
        sa.cast(RUNNING_LOCKS, sa.Integer), sa.func.hashtext(sa.bindparam("key"))
    )
)
_RUNNING: Final = sa.select(sa.func.count(calls.c.answer_id.distinct())).where(
    calls.c.running_key == sa.bindparam("key"), calls.c.answer_id != sa.bindparam("but"), _IS_OPEN
)
_OURS: Final = (
    sa.func.substr(calls.c.owner, 1, sa.bindparam("size")) == sa.bindparam("owners"),
    _IS_OPEN,
)
_WRITERS: Final = sa.select(calls.c.writer).distinct().where(calls.c.writer.is_not(None), *_OURS)
_OPEN_OF: Final = sa.select(calls.c.answer_id).where(
    calls.c.writer.in_(sa.bindparam("writers", expanding=True)), *_OURS
)
_OPEN_BEFORE: Final = sa.select(calls.c.answer_id).where(
    calls.c.started_at < sa.bindparam("before"), *_OURS
)


class Opened(NamedTuple):
    """A call that has begun."""

    answer_id: str
    owner: str
    model: str | None
    started_at: int
    """Microseconds, as from `micros`."""
    prompt_tokens: int = 0
    """An estimate."""
    running_key: str | None = None
    """What the answer counts under as a concurrent one; None: it does not count."""
    id: str = ""
    """The entry's id, so that it may be recorded twice; empty: a new one."""

    @classmethod
    def now(
        cls,
        answer_id: str,
        owner: str,
        model: str | None,
        prompt_tokens: int,
        running_key: str | None = None,
    ) -> "Opened":
        """A call that starts at this moment."""
        entry_id = secrets.token_urlsafe(12)
        return cls(answer_id, owner, model, micros(), prompt_tokens, running_key, entry_id)


class Closed(NamedTuple):
    """How an answer's call ended."""

    answer_id: str
    status: str
    """The answer's last status, or how else the call ended: `refused`, `tool_calls`…"""
    outcome: Outcome = Outcome()
    model: str | None = None
    """The model that was called in the end; None: the one given at the beginning."""
    running_key: str | None = None
    """What the answer counted under as a concurrent one."""
    said: int | None = None
    """Tokens of the text so far, if the call was cut and nobody reported its usage, which is
    estimated then. None: the usage is in the outcome, or there was none."""


def tokens_said(outcome: Outcome, *texts: str) -> int | None:
    """`Closed.said` of an answer that has ended with `outcome`, and that says `texts`."""
    if outcome.usage is not None:
        return None
    return estimated_tokens(texts) or (0 if isinstance(outcome.error, Interrupted) else None)


class Ledger:
    """The calls of all processes.

    :param max_age: seconds after which an entry is removed.
    :param worker_id: returns the id of the worker that makes the calls recorded here.
    """

    def __init__(
        self, database: Database, max_age: float, worker_id: Callable[[], str] = lambda: ""
    ) -> None:
        self._database = database
        self._max_age = max_age
        self.worker_id = worker_id
        self._prune_at = time.monotonic()

    def note(self, entries: Sequence[Opened | Closed]) -> None:
        """Record calls that have begun and calls that have ended, in this order.

        :raises StorageUnavailable:
        """
        self._database.run(lambda connection: self._note(connection, entries))

    def admit(self, before: Sequence[Opened | Closed], call: Opened, slot: Slot) -> bool:
        """Record a call, unless there is no place for its answer.

        :param before: recorded first, as by `note`.
        :returns: whether it is recorded.
        :raises StorageUnavailable:
        """

        def work(connection: sa.Connection) -> bool:
            self._note(connection, before)
            if self.is_full(connection, slot, call.answer_id):
                return False
            self.open_call(connection, call)
            return True

        return self._database.run(work)

    def is_full(self, connection: sa.Connection, slot: Slot, answer_id: str) -> bool:
        """Whether `slot.most` other answers than this one are running, inside a transaction.

        Until it ends, no other transaction counts or adds answers with that key.
        """
        if connection.dialect.name == "postgresql":
            connection.execute(_LOCK, {"key": slot.key})
        given = {"key": slot.key, "but": answer_id}
        return (connection.scalar(_RUNNING, given) or 0) >= slot.most

    def usage_since(self, owner: str, moment: datetime) -> int:
        """The tokens of an owner's calls that began since `moment` and have ended.

        :raises StorageUnavailable:
        """
        given = {"owner": owner, "since": micros(moment)}
        return int(self._database.run(lambda c: c.scalar(_SUM, given), read_only=True) or 0)

    def writers(self, owners: str) -> set[str]:
        """The workers that have open calls.

        :param owners: the prefix of their owners.
        :raises StorageUnavailable:
        """
        return set(self._ids(_WRITERS, owners, {}))

    def open_of(self, writers: Collection[str], owners: str) -> set[str]:
        """The answers whose open calls these workers have made.

        :raises StorageUnavailable:
        """
        return set(self._ids(_OPEN_OF, owners, {"writers": list(writers)}))

    def open_before(self, moment: datetime, owners: str) -> set[str]:
        """The answers with open calls from before `moment`.

        :raises StorageUnavailable:
        """
        return set(self._ids(_OPEN_BEFORE, owners, {"before": micros(moment)}))

    def open_call(self, connection: sa.Connection, call: Opened) -> None:
        """Record the beginning of a call, inside a transaction."""
        connection.execute(_OPEN[connection.dialect.name], self._entry(call))

    def forget(self, owner: str) -> None:
        """Have an owner's entries stand under a pseudonym.

        :raises StorageUnavailable:
        """
        chat = owner.partition("/")[0]
        pseudonym = hashlib.sha256(owner.encode("utf-8", "replace")).hexdigest()[:32]
        given = {"the_owner": owner, "pseudonym": f"{chat}/forgotten:{pseudonym}"}

        def work(connection: sa.Connection) -> None:
            connection.execute(_RENAME, given)

        self._database.run(work)

    def close_call(self, connection: sa.Connection, closed: Closed) -> None:
        """Record the end of an answer's open call, inside a transaction."""
        usage, source = closed.outcome.usage, closed.outcome.usage_source
        if closed.said is not None:
            prompt = connection.scalar(_PROMPT, {"of_answer": closed.answer_id}) or 0
            usage, source = estimated_usage(prompt, closed.said), "estimated"
        fields: dict[str, Any] = {
            "of_answer": closed.answer_id,
            "ended_at": micros(),
            "outcome": closed.status,
            "usage": usage,
            "usage_source": source,
            "running_key": None,
            "total_tokens": (usage or {}).get("total_tokens", 0),
        }
        connection.execute(_CLOSE, fields | ({"model": closed.model} if closed.model else {}))
        if time.monotonic() >= self._prune_at:
            self._prune_at = time.monotonic() + PRUNE_SECONDS
            before = micros() - round(self._max_age * 1_000_000)
            connection.execute(_PRUNE, {"before": before})

    def _note(self, connection: sa.Connection, entries: Sequence[Opened | Closed]) -> None:
        # Consecutive openings are recorded by one statement.
        for _, group in itertools.groupby(entries, type):
            same = list(group)
            if opened := [self._entry(each) for each in same if isinstance(each, Opened)]:
                connection.execute(_OPEN[connection.dialect.name], opened)
            for closed in (each for each in same if isinstance(each, Closed)):
                self.close_call(connection, closed)

    def _ids(self, statement: sa.Select[Any], owners: str, given: dict[str, Any]) -> list[str]:
        given = given | {"owners": owners, "size": len(owners)}
        return self._database.run(
            lambda connection: list(connection.execute(statement, given).scalars()), read_only=True
        )

    def _entry(self, call: Opened) -> dict[str, Any]:
        return call._asdict() | {
            "id": call.id or secrets.token_urlsafe(12),
            "total_tokens": 0,
            "writer": self.worker_id(),
        }
