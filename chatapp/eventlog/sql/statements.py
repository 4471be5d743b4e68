"""The event log's statements, made once; SQLite and PostgreSQL share all but a few words."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from ..base import PublishedMessage, Record, Segment
from .tables import ANSWERS, COUNTERS, PUBLICATIONS, SEGMENTS, WORKERS

FORGOTTEN_AT_ONCE: Final = 200
"""Answers that one transaction forgets: others want to write, too."""
COUNTER: Final = "publications"


class _Entries(FunctionElement[Any]):
    """The entries of a JSON object as rows: lists of any length, in one statement."""

    name = "entries"
    inherit_cache = True


@compiles(_Entries, "sqlite")
def _entries_of_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(_Entries, "postgresql")
def _entries_of_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    return f"json_each_text(CAST({compiler.process(element.clauses, **options)} AS json))"


_given = _Entries(bindparam("given", type_=sa.Text)).table_valued("key", "value")
GIVEN_IDS = sa.select(_given.c.key)


def given(names: Iterable[str]) -> dict[str, Any]:
    """The argument of statements about `GIVEN_IDS`."""
    return {"given": json.dumps(dict.fromkeys(names, 0))}


def given_numbers(numbers: Mapping[str, int]) -> dict[str, Any]:
    """The argument of `READ` and `BEGINS`: for each answer a cursor, or an event."""
    return {"given": json.dumps(dict(numbers))}


_A, _S, _W, _P = ANSWERS.c, SEGMENTS.c, WORKERS.c, PUBLICATIONS.c
RUNS = _A.ended_at.is_(None)
THIS = (_A.id == bindparam("answer_id"), _A.epoch == bindparam("in_epoch"), RUNS)
_LAST_EVENT = sa.func.coalesce(
    sa.select(_S.last)
    .where(_S.answer_id == _A.id)
    .order_by(_S.first.desc())
    .limit(1)
    .scalar_subquery(),
    _A.last_event,
).label("last_event")
_LOG_BYTES = (
    sa.select(sa.func.coalesce(sa.func.sum(sa.func.length(_S.wire)), 0))
    .where(_S.answer_id == _A.id)
    .scalar_subquery()
)
RECORDS = sa.select(
    *(_A[field.name] for field in fields(Record) if field.name != "last_event"),
    _LAST_EVENT,
)

# Records.

ADD = {
    "sqlite": sqlite.insert(ANSWERS).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(ANSWERS).on_conflict_do_nothing(),
}
BY_ID_OR_KEY = RECORDS.where(
    sa.or_(
        _A.id == bindparam("of"),
        sa.and_(_A.owner == bindparam("whose"), _A.key == bindparam("by_key")),
    )
).order_by(_A.id != bindparam("of"))
FIND = RECORDS.where(_A.id == bindparam("of"))
EXISTING = sa.select(_A.id).where(_A.id.in_(GIVEN_IDS))
ASK_TO_STOP = sa.update(ANSWERS).where(_A.id == bindparam("of"), RUNS).values(stop=True)
NOTE_READERS = sa.update(ANSWERS).where(_A.id.in_(GIVEN_IDS), RUNS).values(reads=_A.reads + 1)
RELEASE = sa.update(ANSWERS).where(*THIS).values(writer=None)
TAKE = (
    sa.update(ANSWERS)
    .where(*THIS)
    .values(
        writer=bindparam("by"),
        epoch=_A.epoch + 1,
        crashes=_A.crashes + sa.case((_A.writer.is_(None), 0), else_=1),
    )
)
TAKEN = sa.select(_A.id).where(*THIS, _A.writer == bindparam("by"))
REFUSE = (
    sa.update(ANSWERS)
    .where(*THIS)
    .values(
        status="refused",
        key=None,
        refusal=bindparam("why"),
        ended_at=bindparam("at"),
        request=None,
        log_bytes=_LOG_BYTES,
    )
)
FREE = sa.or_(_A.writer.is_(None), _A.writer.not_in(GIVEN_IDS))
ORPHANS = RECORDS.where(RUNS, FREE).order_by(_A.created_at).limit(bindparam("most"))
FORGET = sa.delete(ANSWERS).where(_A.id.in_(GIVEN_IDS))
FORGET_LOGS = sa.delete(SEGMENTS).where(_S.answer_id.in_(GIVEN_IDS))

# A flush. PostgreSQL's rows stay locked until it is in: nobody takes an answer meanwhile.
# What they are is asked after that, by a statement of its own that sees all that came before.

LOCK = sa.select(sa.func.count()).select_from(
    sa.select(_A.id).where(_A.id.in_(GIVEN_IDS)).order_by(_A.id).with_for_update().subquery()
)
LOCKED = sa.select(_A.id, _A.epoch, _A.status, _LAST_EVENT).where(_A.id.in_(GIVEN_IDS))
NEWS = sa.select(_A.id, _A.stop, _A.reads).where(
    _A.writer == bindparam("by"), RUNS, sa.or_(_A.stop, _A.reads > 0)
)
BEGINS = (
    sa.select(_S.answer_id, _S.first, _S.epoch)
    .select_from(_given.join(SEGMENTS, _S.answer_id == _given.c.key))
    .where(_S.first >= sa.cast(_given.c.value, sa.Integer))
)
CUT = sa.delete(SEGMENTS).where(_S.answer_id == bindparam("of"), _S.first >= bindparam("at"))
MOVE = sa.update(ANSWERS).where(_A.id == bindparam("of")).values(status=bindparam("to"))
END = MOVE.values(
    ended_at=bindparam("at"),
    request=None,
    log_bytes=_LOG_BYTES,
    key=sa.case((bindparam("frees_key", type_=sa.Boolean), sa.null()), else_=_A.key),
)
APPEND = {
    "sqlite": "INSERT INTO chatapp_segments (answer_id, epoch, first, last, wire)"
    " VALUES (?, ?, ?, ?, ?)",
    "postgresql": "INSERT INTO chatapp_segments (answer_id, epoch, first, last, wire)"
    " SELECT * FROM unnest(%b::text[], %b::int[], %b::int[], %b::int[], %b::bytea[])",
}


def _reading() -> Any:
    """Each cursor's segments, the nearest first, while they fit."""
    cursor = sa.cast(_given.c.value, sa.Integer)
    earlier = SEGMENTS.alias()
    # The segment that the next event is in may begin before it.
    begin = (
        sa.select(sa.func.coalesce(sa.func.max(earlier.c.first), 0))
        .where(earlier.c.answer_id == _given.c.key, earlier.c.first <= cursor)
        .scalar_subquery()
    )
    size = sa.func.length(_S.wire)
    before = sa.func.sum(size).over(order_by=(_S.first - cursor, _S.answer_id)) - size
    pending = (
        sa.select(*SEGMENTS.c, before.label("before"))
        .select_from(_given.join(SEGMENTS, _S.answer_id == _given.c.key))
        .where(_S.first >= begin, _S.last > cursor)
        .subquery()
    )
    columns = [pending.c[name] for name in Segment._fields]
    fits = pending.c.before + sa.func.length(pending.c.wire) <= bindparam("room")
    return (
        sa.select(*columns)
        .where(sa.or_(pending.c.before == 0, fits))
        .order_by(pending.c.answer_id, pending.c.first)
    )


def _forgettable() -> Any:
    """Answers that ended long ago, or before those that the space is left to."""
    kept = sa.func.sum(_A.log_bytes).over(order_by=(_A.ended_at.desc(), _A.id))
    ended = sa.select(_A.id, _A.ended_at, kept.label("kept")).where(_A.ended_at.is_not(None))
    each = ended.subquery()
    too_old = each.c.ended_at < bindparam("before")
    too_much = each.c.kept > bindparam("max_bytes")
    return sa.select(each.c.id).where(sa.or_(too_old, too_much)).limit(FORGOTTEN_AT_ONCE)


READ = _reading()
FORGETTABLE = _forgettable()

# Workers.

_BEAT = {"id": bindparam("by"), "beat": 1}
_AGAIN: dict[str, Any] = {"index_elements": ["id"], "set_": {"beat": _W.beat + 1}}
BEAT = {
    "sqlite": sqlite.insert(WORKERS).values(_BEAT).on_conflict_do_update(**_AGAIN),
    "postgresql": postgresql.insert(WORKERS).values(_BEAT).on_conflict_do_update(**_AGAIN),
}
BEATS = sa.select(_W.id, _W.beat)
LEAVE = sa.delete(WORKERS).where(_W.id.in_(GIVEN_IDS))

# Publications. Their counter's row is locked until the commit, so numbers appear in their order.

_START = {"name": COUNTER, "value": bindparam("start")}
BEGIN_COUNT = {
    "sqlite": sqlite.insert(COUNTERS).values(_START).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(COUNTERS).values(_START).on_conflict_do_nothing(),
}
COUNT = (
    sa.update(COUNTERS)
    .where(COUNTERS.c.name == COUNTER)
    .values(value=COUNTERS.c.value + bindparam("more"))
    .returning(COUNTERS.c.value)
)
COUNTED = sa.select(COUNTERS.c.value).where(COUNTERS.c.name == COUNTER)
PUBLISH = sa.insert(PUBLICATIONS)
PUBLISHED = (
    sa.select(*(_P[name] for name in PublishedMessage._fields))
    .where(_P.number > bindparam("after"))
    .order_by(_P.number)
    .limit(bindparam("most"))
)
FORGET_POSTS = sa.delete(PUBLICATIONS).where(
    sa.or_(_P.published_at < bindparam("before"), _P.number <= bindparam("up_to"))
)
