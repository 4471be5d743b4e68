"""Conversations and their messages, in the memory of this worker.

A conversation is a tree: every message names the one that it follows, and asking again or editing
adds a sibling. What is shown and sent upstream is the path from the root to the active leaf.
"""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from .errors import Conflict, InvalidRequest, NotFound

TITLE_MAX_CHARS: Final = 80
MESSAGE_OVERHEAD: Final = 512
"""Bytes that a message costs beside its text; counts against the cap like the text."""


@dataclass(slots=True, kw_only=True)
class Message:
    """One turn. An assistant's message and the answer that writes it share the id."""

    id: str
    conversation_id: str
    parent: str | None
    role: str
    content: str = ""
    reasoning: str = ""
    status: str = "done"
    model: str | None = None
    finish_reason: str | None = None
    usage: dict[str, int] | None = None
    usage_source: str | None = None
    error: dict[str, Any] | None = None
    last_event: int = 0
    leaf_before: str | None = None
    """Of an answer: the conversation's leaf when it was asked for."""
    opens: bool = False
    """Of an answer: whether its conversation was made for it."""
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def size(self) -> int:
        """Bytes, about."""
        return len(self.content.encode()) + len(self.reasoning.encode()) + MESSAGE_OVERHEAD


@dataclass(slots=True, kw_only=True)
class Conversation:
    id: str
    owner: str
    title: str | None
    created_at: datetime
    updated_at: datetime
    order: int
    messages: dict[str, Message] = field(default_factory=dict)
    leaf: str | None = None
    size: int = MESSAGE_OVERHEAD

    def path(self) -> list[Message]:
        """The messages from the first to the active leaf."""
        messages = []
        at = self.leaf
        while at is not None:
            messages.append(self.messages[at])
            at = self.messages[at].parent
        return messages[::-1]

    @property
    def running(self) -> list[str]:
        """The ids of the answers that are being written."""
        messages = tuple(self.messages.values())
        return [m.id for m in messages if m.status in ("pending", "streaming")]


class Store:
    """All conversations of this worker, at most `max_bytes` of them.

    Beyond that the conversations that were not touched for longest are forgotten; one with a
    running answer stays. Somebody else's conversation is not found.
    """

    def __init__(self, max_bytes: int, max_messages: int) -> None:
        self._max_bytes = max_bytes
        self._max_messages = max_messages
        self._lock = threading.Lock()
        self._conversations: OrderedDict[str, Conversation] = OrderedDict()
        self._owned: dict[str, set[str]] = {}
        self._answers: dict[str, str] = {}
        self._size = 0
        self._order = 0

    def create(self, owner: str, title: str | None = None) -> Conversation:
        with self._lock:
            return self._create(owner, title)

    def get(self, owner: str, conversation_id: str) -> Conversation:
        """:raises NotFound:"""
        with self._lock:
            return self._get(owner, conversation_id)

    def page(
        self, owner: str, before: int | None, limit: int
    ) -> tuple[list[Conversation], int | None]:
        """The owner's conversations, newest first.

        :param before: the cursor that the page before gave.
        :returns: at most `limit`, and the cursor of the next page if there is one.
        """
        with self._lock:
            owned = [self._conversations[each] for each in self._owned.get(owner, ())]
        owned.sort(key=lambda each: -each.order)
        rest = [each for each in owned if before is None or each.order < before]
        page = rest[:limit]
        return page, page[-1].order if len(rest) > limit else None

    def rename(self, owner: str, conversation_id: str, title: str) -> Conversation:
        """:raises NotFound:"""
        with self._lock:
            conversation = self._get(owner, conversation_id)
            conversation.title = title
            return conversation

    def delete(self, owner: str, conversation_id: str) -> list[str]:
        """Forget a conversation; the ids of its answers.

        :raises NotFound:
        """
        with self._lock:
            conversation = self._get(owner, conversation_id)
            self._forget(conversation)
            return [each.id for each in conversation.messages.values() if each.role == "assistant"]

    def ask(
        self, owner: str, conversation_id: str | None, text: str, answer_id: str, edit: str | None
    ) -> Conversation:
        """Add a user's message and the pending answer to it, both or neither.

        :param edit: the user's message that this one takes the place of.
        :raises NotFound: no such conversation or message.
        :raises InvalidRequest: the conversation is full.
        :raises Conflict: an answer is being written in it.
        """
        with self._lock:
            if conversation_id is None:
                conversation = self._create(owner, None)
            else:
                conversation = self._get(owner, conversation_id)
            parent = conversation.leaf
            if edit is not None:
                parent = _message(conversation, edit, "user", "edit").parent
            self._check_free(conversation, 2)
            leaf = conversation.leaf
            question = Message(
                id=secrets.token_urlsafe(12),
                conversation_id=conversation.id,
                parent=parent,
                role="user",
                content=text,
            )
            conversation.title = conversation.title or title_of(text)
            self._add(conversation, question)
            answer = self._add_answer(conversation, answer_id, question.id)
            answer.leaf_before, answer.opens = leaf, conversation_id is None
            self._trim()
            return conversation

    def ask_again(self, owner: str, regenerate: str, answer_id: str) -> Conversation:
        """Add a pending answer beside the answer `regenerate`.

        :raises NotFound: no such answer.
        :raises InvalidRequest: the conversation is full.
        :raises Conflict: an answer is being written in it.
        """
        with self._lock:
            conversation = self._conversations.get(self._answers.get(regenerate, ""))
            if conversation is None or conversation.owner != owner:
                raise NotFound("There is no such answer.", param="regenerate")
            old = _message(conversation, regenerate, "assistant", "regenerate")
            self._check_free(conversation, 1)
            leaf = conversation.leaf
            self._add_answer(conversation, answer_id, old.parent).leaf_before = leaf
            return conversation

    def withdraw(self, answer_id: str) -> str | None:
        """Take back what `ask` or `ask_again` added: the upstream refused to begin.

        :returns: the id of the conversation, when it went with its only question.
        """
        with self._lock:
            conversation = self._conversations.get(self._answers.get(answer_id, ""))
            if conversation is None or conversation.leaf != answer_id:
                return None  # Deleted, or somebody has gone on from here: then all stays.
            answer = self._remove(conversation, answer_id)
            conversation.leaf = answer.leaf_before
            question = answer.parent
            if question and all(m.parent != question for m in conversation.messages.values()):
                self._remove(conversation, question)
            if not answer.opens:
                return None
            self._forget(conversation)
            return conversation.id

    def update(self, answer_id: str, **fields: Any) -> None:
        """Set fields of an assistant's message; one that was deleted meanwhile stays deleted."""
        with self._lock:
            conversation = self._conversations.get(self._answers.get(answer_id, ""))
            if conversation is None:
                return
            message = conversation.messages[answer_id]
            before = message.size
            for name, value in fields.items():
                setattr(message, name, value)
            self._grow(conversation, message.size - before)
            self._trim()

    def answer(self, owner: str, answer_id: str) -> Message:
        """An assistant's message.

        :raises NotFound:
        """
        with self._lock:
            conversation = self._conversations.get(self._answers.get(answer_id, ""))
            if conversation is None or conversation.owner != owner:
                raise NotFound("There is no such answer.")
            return conversation.messages[answer_id]

    def _create(self, owner: str, title: str | None) -> Conversation:
        now = datetime.now(UTC)
        conversation = Conversation(
            id=secrets.token_urlsafe(12),
            owner=owner,
            title=title,
            created_at=now,
            updated_at=now,
            order=0,
        )
        self._conversations[conversation.id] = conversation
        self._owned.setdefault(owner, set()).add(conversation.id)
        self._size += conversation.size
        self._touch(conversation)
        self._trim()
        return conversation

    def _get(self, owner: str, conversation_id: str) -> Conversation:
        conversation = self._conversations.get(conversation_id)
        if conversation is None or conversation.owner != owner:
            raise NotFound("There is no such conversation.", param="conversation_id")
        return conversation

    def _check_free(self, conversation: Conversation, more: int) -> None:
        if conversation.running:
            raise Conflict("An answer is still being written here. Wait for it, or stop it.")
        if len(conversation.messages) + more > self._max_messages:
            raise InvalidRequest("This conversation is full. Start a new one.")

    def _add_answer(
        self, conversation: Conversation, answer_id: str, parent: str | None
    ) -> Message:
        self._answers[answer_id] = conversation.id
        answer = Message(
            id=answer_id,
            conversation_id=conversation.id,
            parent=parent,
            role="assistant",
            status="pending",
        )
        self._add(conversation, answer)
        return answer

    def _add(self, conversation: Conversation, message: Message) -> None:
        conversation.messages[message.id] = message
        conversation.leaf = message.id
        self._grow(conversation, message.size)
        self._touch(conversation)

    def _remove(self, conversation: Conversation, message_id: str) -> Message:
        message = conversation.messages.pop(message_id)
        self._answers.pop(message_id, None)
        self._grow(conversation, -message.size)
        return message

    def _grow(self, conversation: Conversation, size: int) -> None:
        conversation.size += size
        self._size += size

    def _touch(self, conversation: Conversation) -> None:
        self._order += 1
        conversation.order = self._order
        conversation.updated_at = datetime.now(UTC)
        self._conversations.move_to_end(conversation.id)

    def _forget(self, conversation: Conversation) -> None:
        del self._conversations[conversation.id]
        for message_id in conversation.messages:
            self._answers.pop(message_id, None)
        owned = self._owned[conversation.owner]
        owned.discard(conversation.id)
        if not owned:
            del self._owned[conversation.owner]
        self._size -= conversation.size

    def _trim(self) -> None:
        for conversation in self._oldest_idle() if self._size > self._max_bytes else ():
            self._forget(conversation)
            if self._size <= self._max_bytes:
                return

    def _oldest_idle(self) -> Iterator[Conversation]:
        """Never the newest: it is the one in hand."""
        for conversation in list(self._conversations.values())[:-1]:
            if not conversation.running:
                yield conversation


def _message(conversation: Conversation, message_id: str, role: str, param: str) -> Message:
    message = conversation.messages.get(message_id)
    if message is None or message.role != role:
        raise NotFound(f"There is no such {role} message in this conversation.", param=param)
    return message


def title_of(text: str) -> str:
    """A conversation's title: the beginning of its first question, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= TITLE_MAX_CHARS else line[: TITLE_MAX_CHARS - 1] + "…"
