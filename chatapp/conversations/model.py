"""A conversation as a tree of messages; no I/O.

Each message names its parent; regenerating or editing adds a sibling. What is shown and sent
upstream is the path from the root to the active leaf.
"""

import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from ..answers.outcome import Outcome, Status, Transcript
from ..errors import Conflict, NotFound
from .titles import title_of

ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
"""What the id of a conversation, a message or an answer looks like."""
QUESTION_SAYS_LITTLE: Final = 15
"""Characters below which a question alone is a poor title."""


def now() -> datetime:
    """In UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a message: its text."""

    text: str = ""

    def __bool__(self) -> bool:
        return bool(self.text)

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing to be told by it."""
        return not self.text.strip()

    def for_upstream(self) -> str:
        """The `content` of a message in OpenAI's format."""
        return self.text


@dataclass(slots=True)
class Message:
    """One turn. An assistant message has the id of its answer."""

    id: str
    conversation_id: str
    number: int
    """Increases in the order of writing within a conversation."""
    parent: str | None
    role: str
    content: Content = field(default_factory=Content)
    reasoning: str = ""
    status: str = Status.DONE
    model: str | None = None
    outcome: Outcome = field(default_factory=Outcome)
    last_event: int = 0
    leaf_before: str | None = None
    """Of an answer: the conversation's leaf before it."""
    opens: bool = False
    """Of an answer: whether its conversation was created for it."""
    created_at: datetime = field(default_factory=now)

    @property
    def transcript(self) -> Transcript:
        """What an answer says, as its log had it at the end."""
        return Transcript(self.last_event, self.content.text, self.reasoning)


@dataclass(slots=True, kw_only=True)
class Conversation:
    """A tree of messages. Lists of conversations come without them."""

    id: str
    owner: str
    title: str | None
    draft_title: bool = False
    """Whether the title came from the question alone, and the first answer may add to it."""
    settings: dict[str, Any] = field(default_factory=dict)
    leaf: str | None = None
    running: str | None = None
    """The running answer."""
    created_at: datetime = field(default_factory=now)
    updated_at: datetime = field(default_factory=now)
    messages: dict[str, Message] = field(default_factory=dict)
    """In the order of writing."""

    def path(self, message_id: str | None = None) -> list[Message]:
        """The messages from the first to this one; None: to the active leaf."""
        messages = []
        at = message_id or self.leaf
        while at is not None:
            messages.append(self.messages[at])
            at = self.messages[at].parent
        return messages[::-1]

    def turns_before(self, answer_id: str) -> list[Message]:
        """What the model is told of the path to an answer, which is not among it.

        An answer that failed or came to nothing gives way to the newest good version of it;
        without one, what it says is told, and nothing where it says nothing.
        """
        path = self.path(answer_id)
        turns = [self._good_version(message) for message in path if message.id != answer_id]
        return [message for message in turns if not message.content.is_blank]

    def _good_version(self, message: Message) -> Message:
        failed = message.content.is_blank or message.status == Status.FAILED
        if message.role != "assistant" or not failed:
            return message
        good = [
            other
            for other in self.messages.values()
            if (other.parent, other.role, other.status)
            == (message.parent, "assistant", Status.DONE)
            and not other.content.is_blank
        ]
        return good[-1] if good else message

    def siblings(self) -> dict[tuple[str | None, str], list[str]]:
        """For each parent and role, the ids of alternative messages."""
        found: dict[tuple[str | None, str], list[str]] = {}
        for message in self.messages.values():
            found.setdefault((message.parent, message.role), []).append(message.id)
        return found

    def newest_below(self, message_id: str) -> str:
        """The leaf of the latest branch through a message.

        :raises NotFound: there is no such message.
        """
        self.message(message_id, None, "leaf")
        below = {message_id}
        newest = message_id
        for message in self.messages.values():
            if message.parent in below:
                below.add(message.id)
                newest = message.id
        return newest

    def message(self, message_id: str, role: str | None, param: str) -> Message:
        """:raises NotFound: there is none, or not with this role."""
        message = self.messages.get(message_id)
        if message is None or role not in (None, message.role):
            kind = f"{role} message" if role else "message"
            raise NotFound(f"There is no such {kind} in this conversation.", param=param)
        return message

    def check_free(self) -> None:
        """:raises Conflict: an answer is being written."""
        if self.running is not None:
            raise Conflict("An answer is still being written here. Wait for it, or stop it.")

    def ask(
        self, content: Content, answer_id: str, edit: str | None, model: str | None
    ) -> tuple[Message, Message]:
        """The user's next message, and the answer to it, which is the active leaf now.

        :param edit: the user's message that this one replaces.
        :raises NotFound: there is no such message.
        """
        before = self.leaf
        parent = before if edit is None else self.message(edit, "user", "edit").parent
        question = self._add(secrets.token_urlsafe(12), parent, "user")
        question.content = content
        if self.title is None:
            self.title = title_of(content.text) or None
            self.draft_title = len(self.title or "") < QUESTION_SAYS_LITTLE
        return question, self._add_answer(answer_id, question.id, model, before)

    def ask_again(self, regenerate: str, answer_id: str, model: str | None) -> Message:
        """An answer beside the answer `regenerate`; it is the active leaf now.

        :raises NotFound: there is no such answer.
        """
        before = self.leaf
        parent = self.message(regenerate, "assistant", "regenerate").parent
        return self._add_answer(answer_id, parent, model, before)

    def take_back(self, answer_id: str) -> list[str]:
        """Undo what `ask` or `ask_again` did; the ids of the messages that go."""
        answer = self.messages.pop(answer_id)
        gone = [answer_id]
        if answer.parent is not None and answer.parent not in self._parents():
            del self.messages[answer.parent]
            gone.append(answer.parent)
        self.leaf, self.running = answer.leaf_before, None
        return gone

    def _parents(self) -> set[str | None]:
        return {message.parent for message in self.messages.values()}

    def _add_answer(
        self, answer_id: str, parent: str | None, model: str | None, before: str | None
    ) -> Message:
        answer = self._add(answer_id, parent, "assistant")
        answer.status, answer.model, answer.leaf_before = Status.PENDING, model, before
        self.running = answer_id
        return answer

    def _add(self, message_id: str, parent: str | None, role: str) -> Message:
        newest = next(reversed(self.messages.values()), None)
        message = Message(
            id=message_id,
            conversation_id=self.id,
            number=newest.number + 1 if newest else 1,
            parent=parent,
            role=role,
        )
        self.messages[message_id] = message
        self.leaf = message_id
        self.updated_at = message.created_at
        return message


def new_conversation(
    owner: str, title: str | None, settings: dict[str, Any] | None
) -> Conversation:
    """A conversation that is not stored yet."""
    made = Conversation(id=secrets.token_urlsafe(12), owner=owner, title=title)
    made.settings = given_settings(settings or {})
    return made


def given_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings without those that are None."""
    return {name: value for name, value in settings.items() if value is not None}
