"""Steps in the life of a question and its answer, each inside a transaction.

All lock the conversation's row first, then messages, then the ledger, so they can't deadlock.
"""

from typing import Any

import sqlalchemy as sa

from ..answers.outcome import RUNNING, Outcome, Status
from ..answers.slot import Slot
from ..answers.text.tokens import estimated_tokens
from . import queries
from .ledger import Closed, Ledger, Opened, tokens_said
from .model import Content, Conversation, Message
from .titles import title_of_exchange


def enter(
    connection: sa.Connection,
    ledger: Ledger,
    slot: Slot | None,
    found: Conversation,
    *new: Message,
) -> None:
    """Store new messages, the answer last, and open its call in the ledger.

    :param slot: what the answer counts under as a concurrent one; None: it does not count.
    :raises TooManyRunning:
    """
    answer = new[-1]
    if slot is not None and ledger.is_full(connection, slot, answer.id):
        raise slot.refusal()
    if not answer.opens:
        queries.save(connection, found, "title", "draft_title", "leaf", "running", "updated_at")
    connection.execute(queries.INSERT_MESSAGES, [queries.to_row(each) for each in new])
    prompt = estimated_tokens(each.content.text for each in found.path(answer.id))
    key = slot.key if slot else None
    ledger.open_call(connection, Opened.now(answer.id, found.owner, answer.model, prompt, key))


def take_back(connection: sa.Connection, answer_id: str) -> str | None:
    """Remove an answer and its question. Returns the conversation's id, if it was removed too."""
    found = queries.of_message(connection, queries.LOCK_OF_MESSAGE, answer_id)
    if found is None or found.leaf != answer_id:
        return None  # Deleted, or the conversation has continued: then all stays.
    opened_for_it = found.messages[answer_id].opens
    gone = found.take_back(answer_id)
    if opened_for_it and not found.messages:
        connection.execute(queries.DELETE, {"the_id": found.id})
        return found.id
    queries.save(connection, found, "leaf", "running")
    connection.execute(queries.DELETE_MESSAGE, [{"the_id": each} for each in gone])
    return None


def update(
    connection: sa.Connection, ledger: Ledger, answer_id: str, fields: dict[str, Any]
) -> str | None:
    """Store an answer's outcome. Returns the conversation's title, if the answer changed it."""
    ends = fields.get("status", Status.PENDING) not in RUNNING
    freed = connection.execute(queries.RELEASE, {"the_id": answer_id}).first() if ends else None
    values = queries.to_row(fields) | {"the_id": answer_id}
    there = connection.execute(queries.CHANGE_ANSWER, values).rowcount
    title = None
    if freed and freed.draft_title and there and fields["status"] == Status.DONE:
        title = title_of_exchange(freed.title, fields.get("content", Content()).text)
        saved = {"the_id": freed.id, "title": queries.clean(title) or None, "draft_title": False}
        connection.execute(queries.CHANGE, saved)
    if ends:
        outcome = fields.get("outcome", Outcome())
        said = tokens_said(
            outcome, fields.get("content", Content()).text, fields.get("reasoning", "")
        )
        model = fields.get("model")
        closed = Closed(answer_id, fields["status"], outcome, model, said=said)
        ledger.close_call(connection, closed)
    return title if title and freed and title != freed.title else None
