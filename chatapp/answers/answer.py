"""The life of one answer.

Only the reader of its upstream writes an answer: a thread, or the event loop under gevent, piece by
piece. Everybody else reads its log. Whoever moves an answer to its last status writes its last
event, and the table of transitions lets only one caller do so.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from ..errors import ChatAppError, InternalError
from ..runtime.wakers import Wakeable
from .checkpoints import SPACING
from .events import DELTAS, Event, EventType, event_data, start_event
from .live_log import LiveLog
from .outcome import ID_LENGTH, TRANSITIONS, Outcome, Status, Transcript
from .text.granularity import Splitter
from .text.think_tags import split_at_lone_end

logger = logging.getLogger(__name__)

Deltas = Iterable[tuple[EventType, str]]


class IllegalTransition(RuntimeError):
    """The table of transitions has no such move. Nothing was changed."""


class Moved(RuntimeError):
    """Another worker owns the answer now, and writes its end."""


class Stream(Protocol):
    """An upstream's answer while it arrives."""

    finish_reason: str | None

    def copy(
        self,
        write: Callable[[Deltas], bool],
        ended: Callable[[Exception | None], None],
    ) -> None:
        """Pass the pieces to `write` as they arrive, to the end or until `write` returns False.

        Pieces that arrived together are passed on together.

        Then call `ended` with the exception, if there was one: before the return, or later from
        another thread.
        """

    def usage(self, text: str) -> tuple[dict[str, int], str]:
        """Token counts and their source: `provider`, or `estimated` from `text`."""

    def close(self) -> None: ...


class Cancellable(Protocol):
    """Closes the upstream's socket in whatever phase it is."""

    def cancel(self) -> None: ...


class Answer:
    """One assistant message while it is written, and for as long as its log is kept.

    Read the fields; call the methods to change them.
    """

    __slots__ = (
        "__weakref__",
        "_chars",
        "_checkpoint_at",
        "_lock",
        "_max_chars",
        "_splitters",
        "accepted",
        "accepted_or_refused",
        "cancellation",
        "conversation_id",
        "created_at",
        "decided_end",
        "ended_at",
        "epoch",
        "history_bytes",
        "id",
        "key",
        "log",
        "model",
        "moved",
        "outcome",
        "owner",
        "provisional",
        "readers",
        "request",
        "running_key",
        "status",
        "unread_since",
    )

    def __init__(
        self, owner: str, log: LiveLog, max_chars: int, answer_id: str | None = None
    ) -> None:
        self.id = answer_id or secrets.token_urlsafe(ID_LENGTH * 3 // 4)
        self.owner = owner
        self.key: str | None = None
        self.conversation_id: str | None = None
        self.model: str | None = None
        self.created_at = datetime.now(UTC)
        self.request: bytes | None = None
        """What another worker needs to continue; None if none would."""
        self.history_bytes = 0
        """Bytes of a history that a client has sent, held until the end."""
        self.epoch = 1
        """Incremented by each takeover."""
        self.provisional = False
        """Whether a refusal would still undo it; until then, other workers must not see its end."""
        self.running_key: str | None = None
        """What it counts under as a concurrent answer; None: it is not admitted yet."""
        self.moved = False
        """Whether it is no longer written here; its readers find it elsewhere."""
        self.status = Status.PENDING
        self.accepted = False
        """Whether the upstream has accepted the request."""
        self.log = log
        self.outcome = Outcome()
        self.ended_at: float | None = None
        """Monotonic seconds. Set after the last event is in the log: nothing follows."""
        self.accepted_or_refused = threading.Event()
        """Set when the upstream has accepted or refused, or the answer is over."""
        self.readers: set[Wakeable] = set()
        self.unread_since = time.monotonic()
        self._max_chars = max_chars
        self._chars = 0
        self._checkpoint_at = SPACING
        self._splitters: dict[EventType, Splitter] = {}
        self._lock = threading.Lock()
        self.cancellation: Cancellable | None = None
        self.decided_end: tuple[Status, ChatAppError | None] | None = None
        """How the answer must end, once that is decided."""

    @property
    def running(self) -> bool:
        return self.ended_at is None

    @property
    def shown_status(self) -> Status:
        """The status for readers: the last one appears with the last event."""
        if not self.running:
            return self.status
        return Status.STREAMING if self.accepted else Status.PENDING

    def start_event(self) -> Event:
        """Event 1."""
        return start_event(self.id, self.conversation_id, self.model, self.created_at)

    def move(self, status: Status, only_from: Status | None = None) -> None:
        """Go on to `status`.

        :raises IllegalTransition: when the table has no such move, or this is not `only_from`.
        """
        with self._lock:
            if status not in TRANSITIONS[self.status] or only_from not in (None, self.status):
                raise IllegalTransition(f"answer {self.id}: {self.status} to {status}")
            self.status = status
            self.accepted = self.accepted or status is Status.STREAMING

    def write(self, deltas: Deltas) -> bool:
        """Append pieces and wake the readers once. False when the answer has its maximum length."""
        chars, most = self._chars, self._max_chars
        for kind, text in deltas:
            splitter = self._splitters.get(kind)
            if splitter is None:
                splitter = self._splitters[kind] = Splitter()
            for part in splitter.split(text[: most - chars]):
                self.log.append_piece(kind, part)
            chars += len(text)
            if chars >= most:
                break
        self._chars = chars
        if chars >= self._checkpoint_at:
            self._add_checkpoint()
        for reader in tuple(self.readers):
            reader.notify_data()
        return chars < most

    def _add_checkpoint(self) -> None:
        for kind in DELTAS:
            self._splitters.setdefault(kind, Splitter())
        self.log.add_checkpoint({kind: each.cutter for kind, each in self._splitters.items()})
        self._checkpoint_at = self._chars + SPACING

    def resume(self) -> None:
        """Prepare to continue where another worker stopped; others run meanwhile."""
        cutters = self.log.cutters_at(self.log.last, lambda: time.sleep(0))
        for kind, cutter in cutters.items():
            self._splitters[kind] = Splitter(cutter)
            self._chars += len(self.log.text(kind))
        self._checkpoint_at = self._chars + SPACING
        self.status = Status.PENDING

    def tell_reasoning_apart(self) -> None:
        """Take for reasoning what comes before `</think>` where nothing has opened it.

        Only then is it known to be some; the readers get a snapshot.
        """
        if parts := split_at_lone_end(self.log.text()):
            before, text = parts
            reasoning = "\n\n".join(filter(None, (self.log.text(EventType.REASONING), before)))
            self.log.restart(Transcript(self.log.last + 1, text, reasoning))

    def wake_readers(self) -> None:
        """Wake all readers that wait for this answer."""
        for reader in tuple(self.readers):
            reader.wake()

    def write_end(self, outcome: Outcome, save: Callable[["Answer"], None]) -> None:
        """Save the message, then write the last event: who sees the event can read the message.

        Only for the caller that has just moved the answer to its last status.

        :param save: may raise `Moved`; then nothing is written.
        """
        self.outcome = outcome
        try:
            save(self)
        except Moved:
            return
        except Exception:
            logger.exception("answer %s could not be saved", self.id)
            self.status = Status.FAILED
            self.outcome = replace(outcome, error=InternalError(SAVE_FAILED))
        if error := self.outcome.error:
            self.log.append(EventType.FAILED, event_data(error.fields()))
        else:
            self.log.append(EventType.DONE, event_data(self.outcome.done_fields()))
        self._splitters.clear()
        self.ended_at = time.monotonic()
        self.accepted_or_refused.set()
        self.wake_readers()

    def request_end(self, status: Status, error: ChatAppError | None) -> None:
        """Decide how the answer must end, and close its upstream; the first decision stands."""
        with self._lock:
            self.decided_end = self.decided_end or (status, error)
        if self.cancellation:
            self.cancellation.cancel()

    def snapshot_fields(self, transcript: Transcript) -> dict[str, Any]:
        """The data of a `snapshot` event for the text so far."""
        return transcript.fields() | {"status": self.shown_status}


SAVE_FAILED: Final = "The answer could not be saved. What was written so far is shown here."
