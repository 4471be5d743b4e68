"""Whether there is room for more: for one owner, and in the database."""

import time
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from ..database.database import Database
from ..database.schema import micros
from ..errors import InvalidRequest, StorageFull
from . import queries
from .tables import calls, conversations, messages

MEASURED_FOR: Final = 1.0
"""Seconds between looks at the sizes of PostgreSQL's tables."""
_IN_FILE: Final = sa.text(
    "SELECT (page_count - freelist_count) * page_size"
    " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
)
_IN_TABLES: Final = sa.select(
    sum(
        (sa.func.pg_total_relation_size(table.name) for table in (conversations, messages, calls)),
        sa.literal(0),
    )
)


class Room:
    """What may be stored; the checks are inside the transaction that adds something.

    Bytes are, in SQLite, the pages of the file that are in use. In PostgreSQL they are the sizes of
    the tables, which only shrink by `VACUUM FULL`.

    :param conversations: the maximum per owner.
    :param messages: the maximum per owner, in all conversations.
    :param most: bytes of the database; 0: any number.
    """

    def __init__(self, database: Database, conversations: int, messages: int, most: int) -> None:
        self._database = database
        self._conversations = conversations
        self._messages = messages
        self.most = most
        self._used = 0
        self._measured_at = float("-inf")

    def check_conversation(self, connection: sa.Connection, owner: str) -> None:
        """See that there is room for one more conversation.

        :raises InvalidRequest: the owner has too many.
        :raises StorageFull:
        """
        self._check_bytes(connection)
        if (connection.scalar(queries.COUNT, {"the_owner": owner}) or 0) >= self._conversations:
            raise InvalidRequest(
                f"You have {self._conversations} conversations, which is the maximum. "
                "Delete some, then try again."
            )

    def check_messages(self, connection: sa.Connection, owner: str, *, opens: bool = False) -> None:
        """See that there is room for one more question, or an answer.

        :param opens: whether a conversation is created for it.
        :raises InvalidRequest: the owner has too many messages, or conversations.
        :raises StorageFull:
        """
        if opens:
            self.check_conversation(connection, owner)
        else:
            self._check_bytes(connection)
        kept = connection.scalar(queries.OWNED_MESSAGES, {"the_owner": owner}) or 0
        if kept >= self._messages:
            raise InvalidRequest(
                f"You have {kept} messages, and {self._messages} are the maximum. "
                "Delete some conversations, then try again."
            )

    def _check_bytes(self, connection: sa.Connection) -> None:
        if self.most and self._measure(connection) >= self.most:
            raise StorageFull("This server's storage is full. Delete some conversations.")

    def used(self) -> int:
        """Bytes in use.

        :raises StorageUnavailable:
        """
        return self._database.run(self._measure, read_only=True)

    def _measure(self, connection: sa.Connection) -> int:
        if connection.dialect.name == "sqlite":
            return int(connection.scalar(_IN_FILE) or 0)
        if time.monotonic() - self._measured_at >= MEASURED_FOR:
            self._used = int(connection.scalar(_IN_TABLES) or 0)
            self._measured_at = time.monotonic()
        return self._used


def delete_unused(
    database: Database, owners: str, before: datetime, most: int, *, only_empty: bool
) -> int:
    """Delete conversations last used before a moment, unless an answer runs.

    :param owners: the prefix of their owners.
    :param only_empty: those without a message.
    :returns: how many were deleted, at most `most`.
    :raises StorageUnavailable:
    """
    given = {"owners": owners, "size": len(owners), "before": micros(before), "most": most}
    statement = queries.DELETE_EMPTY if only_empty else queries.DELETE_UNUSED
    return database.run(lambda connection: connection.execute(statement, given).rowcount)
