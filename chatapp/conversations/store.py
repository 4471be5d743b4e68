"""Conversations and their messages, in SQL.

Each method is one unit of work: it returns plain data, and holds no connection afterwards.
"""

import contextlib
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ..answers.slot import Slot
from ..database.database import Database
from ..database.schema import micros
from ..database.time_limit import TookTooLong, time_limit
from ..errors import InvalidRequest, NotFound
from . import queries, transactions
from .ledger import Closed, Ledger
from .model import ID, Content, Conversation, Message, given_settings, new_conversation
from .room import Room
from .searches import Searches, busy
from .titles import MAX_TITLE_CHARS

__all__ = ["ID", "MAX_TITLE_CHARS", "Content", "Conversation", "Message", "Store"]


class Store:
    """The conversations of all owners. Other owners' conversations are not found.

    Every method raises `StorageUnavailable` if the database does not work.

    :param max_messages: per conversation, in all its branches.
    :param max_conversations: per owner.
    :param ledger: records the answers' calls.
    :param max_owned_messages: per owner, in all conversations.
    :param max_bytes: of the database; 0: any number.
    :param searches: gives each search its turn.
    """

    def __init__(
        self,
        database: Database,
        max_messages: int,
        max_conversations: int,
        ledger: Ledger,
        *,
        max_owned_messages: int = 20_000,
        max_bytes: int = 0,
        searches: Searches | None = None,
    ) -> None:
        self._database = database
        self._max_messages = max_messages
        self.room = Room(database, max_conversations, max_owned_messages, max_bytes)
        self.ledger = ledger
        self._searches = searches or Searches(1, 5.0)

    def create(
        self, owner: str, title: str | None = None, settings: dict[str, Any] | None = None
    ) -> Conversation:
        """Create a conversation without a question.

        :raises InvalidRequest: the owner has the maximum of conversations.
        :raises StorageFull:
        """
        made = new_conversation(owner, title, settings)
        made.updated_at = made.created_at

        def work(connection: sa.Connection) -> Conversation:
            self.room.check_conversation(connection, owner)
            connection.execute(queries.INSERT, queries.to_row(made))
            return made

        return self._database.run(work)

    def get(self, owner: str, conversation_id: str) -> Conversation:
        """:raises NotFound:"""

        def work(connection: sa.Connection) -> Conversation:
            found = queries.find(connection, queries.FIND, owner, conversation_id)
            return queries.load_messages(connection, found)

        return self._database.run(work, read_only=True)

    def conversation_of(self, owner: str, answer_id: str) -> Conversation:
        """The conversation of an answer.

        :raises NotFound:
        """
        found = self._database.run(
            lambda connection: queries.of_message(connection, queries.OF_MESSAGE, answer_id),
            read_only=True,
        )
        if found is None or found.owner != owner:
            raise NotFound("There is no such answer.")
        return found

    def page(
        self, owner: str, cursor: str | None, limit: int, query: str | None = None
    ) -> tuple[list[Conversation], str | None]:
        """The owner's conversations, without messages, newest first.

        A conversation that does not change while the pages are read appears exactly once.

        :param cursor: from the previous page.
        :param query: only those with this text in the title or a message, ignoring case.
        :returns: at most `limit`, and the cursor of the next page if there is one.
        :raises InvalidRequest: the cursor is invalid.
        :raises SearchBusy: this search takes too long, or others do.
        """
        before = None if cursor is None else queries.read_cursor(cursor)

        def work(connection: sa.Connection) -> list[Conversation]:
            if query is None:
                return queries.page_of(connection, owner, before, limit + 1, query)
            with time_limit(connection, self._searches.timeout):
                return queries.page_of(connection, owner, before, limit + 1, query)

        with self._searches.turn(owner) if query is not None else contextlib.nullcontext():
            try:
                found = self._database.run(work, read_only=True)
            except TookTooLong:
                raise busy("This search takes too long. Search for something longer.") from None
        page = found[:limit]
        last = page[-1] if len(found) > limit else None
        return page, f"{micros(last.updated_at)}.{last.id}" if last else None

    def change(
        self,
        owner: str,
        conversation_id: str,
        *,
        title: str | None = None,
        leaf: str | None = None,
        settings: dict[str, Any] | None = None,
    ) -> Conversation:
        """Rename a conversation, show another branch, change its settings.

        :param leaf: a message; the latest branch through it is shown.
        :param settings: the options to set; None removes one.
        :raises NotFound: no such conversation, or message in it.
        :raises Conflict: another branch is wanted, and an answer is being written.
        """

        def work(connection: sa.Connection) -> Conversation:
            found = queries.find(connection, queries.LOCK, owner, conversation_id)
            if title is not None:
                found.title, found.draft_title = title, False
            if leaf is not None:
                found.check_free()
                found.leaf = queries.load_messages(connection, found).newest_below(leaf)
            found.settings = given_settings(found.settings | (settings or {}))
            queries.save(connection, found, "title", "draft_title", "leaf", "settings")
            return found

        return self._database.run(work)

    def delete(self, owner: str, conversation_id: str) -> list[str]:
        """Delete a conversation. Returns the ids of its answers.

        :raises NotFound:
        """

        def work(connection: sa.Connection) -> list[str]:
            found = queries.find(connection, queries.LOCK, owner, conversation_id)
            queries.load_messages(connection, found)
            connection.execute(queries.DELETE, {"the_id": found.id})
            return [each.id for each in found.messages.values() if each.role == "assistant"]

        return self._database.run(work)

    def delete_all(self, owner: str) -> list[str]:
        """Delete everything that an owner has. Returns the ids of the answers."""
        given = {"the_owner": owner}

        def work(connection: sa.Connection) -> list[str]:
            answers = list(connection.execute(queries.ANSWERS_OF, given).scalars())
            connection.execute(queries.DELETE_ALL, given)
            return answers

        return self._database.run(work)

    def ask(
        self,
        owner: str,
        conversation_id: str | None,
        content: Content,
        answer_id: str,
        edit: str | None,
        model: str | None = None,
        *,
        default_model: str | None = None,
        slot: Slot | None = None,
        settings: dict[str, Any] | None = None,
    ) -> Conversation:
        """Add a user's message and the pending answer to it, both or neither.

        :param edit: the user's message that this one replaces.
        :param model: the model for the ledger's entry; None: the one in the conversation's
            settings, or else `default_model`.
        :param slot: what the answer counts under as a concurrent one; None: it does not count.
        :param settings: of a new conversation.
        :raises NotFound: no such conversation or message.
        :raises InvalidRequest: the conversation is full, or the owner has too many.
        :raises Conflict: an answer is being written in it.
        :raises TooManyRunning:
        """

        def work(connection: sa.Connection) -> Conversation:
            self.room.check_messages(connection, owner, opens=conversation_id is None)
            found = new_conversation(owner, None, settings)
            if conversation_id is not None:
                found = self._locked(connection, owner, conversation_id, 2)
            chosen = model or found.settings.get("model") or default_model
            question, answer = found.ask(content, answer_id, edit, chosen)
            if conversation_id is None:
                answer.opens, found.created_at = True, found.updated_at
                connection.execute(queries.INSERT, queries.to_row(found))
            transactions.enter(connection, self.ledger, slot, found, question, answer)
            return found

        return self._database.run(work)

    def ask_again(
        self,
        owner: str,
        regenerate: str,
        answer_id: str,
        model: str | None = None,
        *,
        default_model: str | None = None,
        slot: Slot | None = None,
    ) -> Conversation:
        """Add a pending answer beside the answer `regenerate`; the rest is as for `ask`.

        :raises NotFound: no such answer.
        :raises InvalidRequest: the conversation is full, or the owner has too many messages.
        :raises Conflict: an answer is being written in it.
        :raises TooManyRunning:
        :raises StorageFull:
        """

        def work(connection: sa.Connection) -> Conversation:
            found = queries.of_message(connection, queries.LOCK_OF_MESSAGE, regenerate)
            if found is None or found.owner != owner:
                raise NotFound("There is no such answer.", param="regenerate")
            self._check_free(found, 1)
            self.room.check_messages(connection, owner)
            chosen = model or found.settings.get("model") or default_model
            answer = found.ask_again(regenerate, answer_id, chosen)
            transactions.enter(connection, self.ledger, slot, found, answer)
            return found

        return self._database.run(work)

    def withdraw(self, answer_id: str) -> str | None:
        """Remove what `ask` or `ask_again` added, because the upstream refused.

        :returns: the id of the conversation, if it was removed with its only question.
        """

        def work(connection: sa.Connection) -> str | None:
            gone = transactions.take_back(connection, answer_id)
            self.ledger.close_call(connection, Closed(answer_id, "refused"))
            return gone

        return self._database.run(work)

    def update(self, answer_id: str, **fields: Any) -> str | None:
        """Set fields of an assistant's message; a deleted one stays deleted.

        A final `status` also closes the call in the ledger and frees the conversation for the next
        question. Repeating it changes only the message.

        :returns: the conversation's title, if the answer changed it.
        """
        return self._database.run(
            lambda connection: transactions.update(connection, self.ledger, answer_id, fields)
        )

    def answer(self, owner: str, answer_id: str) -> Message:
        """An assistant's message.

        :raises NotFound:
        """
        given = {"the_id": answer_id, "the_owner": owner}
        if ID.fullmatch(answer_id):
            found = self._database.run(
                lambda connection: queries.messages_of(connection.execute(queries.ANSWER, given)),
                read_only=True,
            )
        else:
            found = {}
        if not found:
            raise NotFound("There is no such answer.")
        return found[answer_id]

    def unfinished(self, before: datetime, owners: str = "", most: int = 1000) -> list[Message]:
        """Running answers that were started before a moment, oldest first.

        An answer that no worker writes blocks its conversation until `update` ends it.

        :param owners: the prefix of their owners.
        """
        given = {"before": micros(before), "owners": owners, "size": len(owners), "most": most}
        return self._database.run(
            lambda connection: list(
                queries.messages_of(connection.execute(queries.RUNNING, given)).values()
            ),
            read_only=True,
        )

    def _locked(
        self, connection: sa.Connection, owner: str, conversation_id: str, more: int
    ) -> Conversation:
        """The conversation with its messages, if it takes so many more."""
        found = queries.find(connection, queries.LOCK, owner, conversation_id)
        self._check_free(queries.load_messages(connection, found), more)
        return found

    def _check_free(self, conversation: Conversation, more: int) -> None:
        conversation.check_free()
        if len(conversation.messages) + more > self._max_messages:
            raise InvalidRequest("This conversation is full. Start a new one.")
