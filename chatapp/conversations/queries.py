"""The store's statements, built once, and their rows as plain data."""

import re
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Final

import sqlalchemy as sa

from ..answers.outcome import Outcome
from ..database.schema import micros, moment_of
from ..errors import InvalidRequest, NotFound, restored
from .model import ID, Content, Conversation, Message
from .tables import conversations, messages

CURSOR: Final = re.compile(rf"([0-9]{{1,18}})\.({ID.pattern})", re.ASCII)
_the_id: Final[sa.BindParameter[str]] = sa.bindparam("the_id")
_owned = conversations.c.owner == sa.bindparam("the_owner")

FIND: Final = sa.select(conversations).where(conversations.c.id == _the_id, _owned)
LOCK: Final = FIND.with_for_update()
OF_MESSAGE: Final = (
    sa.select(conversations)
    .join(messages, messages.c.conversation_id == conversations.c.id)
    .where(messages.c.id == _the_id)
)
LOCK_OF_MESSAGE: Final = OF_MESSAGE.with_for_update(of=conversations)
MESSAGES: Final = (
    sa.select(messages).where(messages.c.conversation_id == _the_id).order_by(messages.c.number)
)
ANSWER: Final = (
    sa.select(messages)
    .join(conversations)
    .where(messages.c.id == _the_id, messages.c.role == "assistant", _owned)
)
COUNT: Final = sa.select(sa.func.count()).select_from(conversations).where(_owned)
INSERT: Final = sa.insert(conversations)
CHANGE: Final = sa.update(conversations).where(conversations.c.id == _the_id)
DELETE_ALL: Final = sa.delete(conversations).where(_owned)
ANSWERS_OF: Final = (
    sa.select(messages.c.id)
    .join(conversations, messages.c.conversation_id == conversations.c.id)
    .where(messages.c.role == "assistant", _owned)
)
OWNED_MESSAGES: Final = (
    sa.select(sa.func.count())
    .select_from(messages)
    .join(conversations, messages.c.conversation_id == conversations.c.id)
    .where(_owned)
)
_has_messages = sa.exists().where(messages.c.conversation_id == conversations.c.id)
_unused = (
    sa.select(conversations.c.id)
    .where(
        conversations.c.updated_at < sa.bindparam("before"),
        sa.func.substr(conversations.c.owner, 1, sa.bindparam("size")) == sa.bindparam("owners"),
        conversations.c.running.is_(None),
    )
    .order_by(conversations.c.updated_at)
    .limit(sa.bindparam("most"))
    .with_for_update(skip_locked=True, of=conversations)
)
DELETE_UNUSED: Final = sa.delete(conversations).where(conversations.c.id.in_(_unused))
DELETE_EMPTY: Final = sa.delete(conversations).where(
    conversations.c.id.in_(_unused.where(~_has_messages))
)
DELETE: Final = sa.delete(conversations).where(conversations.c.id == _the_id)
INSERT_MESSAGES: Final = sa.insert(messages)
CHANGE_ANSWER: Final = sa.update(messages).where(
    messages.c.id == _the_id, messages.c.role == "assistant"
)
DELETE_MESSAGE: Final = sa.delete(messages).where(messages.c.id == _the_id)
RELEASE: Final = (
    sa.update(conversations)
    .where(conversations.c.running == _the_id)
    .values(running=None)
    .returning(conversations.c.id, conversations.c.title, conversations.c.draft_title)
)
RUNNING: Final = (
    sa.select(messages)
    .join(conversations, conversations.c.running == messages.c.id)
    .where(conversations.c.running.is_not(None), messages.c.created_at < sa.bindparam("before"))
    .where(sa.func.substr(conversations.c.owner, 1, sa.bindparam("size")) == sa.bindparam("owners"))
    .order_by(messages.c.created_at)
    .limit(sa.bindparam("most"))
)

_CONVERSATION_FIELDS: Final = tuple(conversations.c.keys())
_MESSAGE_FIELDS: Final = tuple(each.name for each in fields(Message))
_OUTCOME_COLUMNS: Final = tuple(each.name for each in fields(Outcome))
_TEXTS: Final = ("title", "content", "reasoning")


def read_cursor(cursor: str) -> tuple[int, str]:
    """The last conversation of a page: microseconds of its last use, and its id.

    :raises InvalidRequest:
    """
    given = CURSOR.fullmatch(cursor)
    if given is None:
        raise InvalidRequest("Invalid cursor.", param="cursor")
    return int(given[1]), given[2]


def page_of(
    connection: sa.Connection,
    owner: str,
    before: tuple[int, str] | None,
    limit: int,
    query: str | None,
) -> list[Conversation]:
    """At most `limit` of an owner's conversations, newest first.

    :param before: `updated_at` and id of the conversation that they follow.
    :param query: text that the title or a message contains, ignoring case.
    """
    place = (conversations.c.updated_at, conversations.c.id)
    found = sa.select(conversations).where(conversations.c.owner == owner)
    if before is not None:
        found = found.where(sa.tuple_(*place) < sa.tuple_(*before))
    if query is not None:
        found = found.where(_mentions(clean(query), connection.dialect.name))
    found = found.order_by(*(each.desc() for each in place)).limit(limit)
    return [conversation_of(row) for row in connection.execute(found)]


def _mentions(text: str, dialect: str) -> sa.ColumnElement[bool]:
    wild = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")

    def has(column: sa.Column[Any]) -> sa.ColumnElement[bool]:
        if dialect == "postgresql":
            return column.ilike(f"%{wild}%", escape="\\")
        # SQLite's LIKE ignores case only in ASCII, and Chinese, say, has none.
        if text.isascii() or text.lower() == text.upper():
            return column.like(f"%{wild}%", escape="\\")
        return sa.func.chatapp_lower(column).like(f"%{wild.lower()}%", escape="\\")

    of_it = messages.c.conversation_id == conversations.c.id
    return has(conversations.c.title) | sa.exists().where(of_it, has(messages.c.content))


def clean(text: str) -> str:
    """A text that every database accepts: without NUL and unpaired surrogates."""
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def to_row(record: Conversation | Message | dict[str, Any]) -> dict[str, Any]:
    """The values of a row, or of the columns that a dict names."""
    if isinstance(record, dict):
        row = dict(record)
    else:
        names = _CONVERSATION_FIELDS if isinstance(record, Conversation) else _MESSAGE_FIELDS
        row = {name: getattr(record, name) for name in names}
    if "content" in row:
        row["content"] = row["content"].text
    if "outcome" in row:
        row |= row.pop("outcome").fields()
    for name in _TEXTS:
        if row.get(name):
            row[name] = clean(row[name])
    for name in ("created_at", "updated_at"):
        if name in row:
            row[name] = micros(row[name])
    return row


def conversation_of(row: sa.Row[Any]) -> Conversation:
    """Without its messages."""
    conversation = Conversation(**dict(zip(_CONVERSATION_FIELDS, row, strict=True)))
    conversation.created_at = moment_of(row.created_at)
    conversation.updated_at = moment_of(row.updated_at)
    return conversation


def messages_of(rows: Iterable[Any]) -> dict[str, Message]:
    """By their ids, in the order of the rows."""
    found = [_message_of(dict(row._mapping)) for row in rows]
    return {message.id: message for message in found}


def _message_of(row: dict[str, Any]) -> Message:
    ended = {name: row.pop(name) for name in _OUTCOME_COLUMNS}
    if ended["error"]:
        ended["error"] = restored(ended["error"])
    row |= {"content": Content(row["content"]), "created_at": moment_of(row["created_at"])}
    return Message(**row, outcome=Outcome(**ended))


def find(
    connection: sa.Connection, statement: sa.Select[Any], owner: str, conversation_id: str
) -> Conversation:
    """The owner's conversation, by `FIND` or `LOCK`.

    :raises NotFound:
    """
    row = None
    if ID.fullmatch(conversation_id):
        given = {"the_id": conversation_id, "the_owner": owner}
        row = connection.execute(statement, given).first()
    if row is None:
        raise NotFound("There is no such conversation.", param="conversation_id")
    return conversation_of(row)


def of_message(
    connection: sa.Connection, statement: sa.Select[Any], message_id: str
) -> Conversation | None:
    """The conversation that a message is in, by `OF_MESSAGE` or `LOCK_OF_MESSAGE`."""
    row = connection.execute(statement, {"the_id": message_id}).first()
    return load_messages(connection, conversation_of(row)) if row else None


def load_messages(connection: sa.Connection, conversation: Conversation) -> Conversation:
    """The conversation, with all its messages."""
    rows = connection.execute(MESSAGES, {"the_id": conversation.id})
    conversation.messages = messages_of(rows)
    return conversation


def save(connection: sa.Connection, conversation: Conversation, *names: str) -> None:
    """Write these columns of a conversation."""
    values = to_row({name: getattr(conversation, name) for name in names})
    connection.execute(CHANGE, values | {"the_id": conversation.id})
