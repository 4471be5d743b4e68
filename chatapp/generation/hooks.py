"""The application's own functions around an answer: before it, on each piece, and at its end.

A hook refuses by raising, and any other exception counts as a refusal: a question that could not be
checked is not asked, and a piece that could not be checked is not shown. An exception after the end
of an answer is only logged.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..answers.answer import Deltas
from ..answers.events import EventType
from ..answers.outcome import Status
from ..errors import ChatAppError, InternalError
from ..runtime.stall_watch import StallWatch, name_of

logger = logging.getLogger(__name__)

Write = Callable[[Deltas], bool]


@dataclass(kw_only=True)
class AnswerRequest:
    """What is about to be sent to the model. A `before` hook may change the last three."""

    answer_id: str
    owner: str
    conversation_id: str | None
    """None if a whole history was sent, which belongs to no conversation."""
    model: str
    """Any model of the upstream, also one that visitors can't choose."""
    messages: list[dict[str, Any]]
    """In OpenAI's format, the new question last. Changes apply to this answer only."""
    options: dict[str, Any] = field(default_factory=dict)
    """More parameters of the request, by OpenAI's names, e.g. `temperature`."""


@dataclass(kw_only=True)
class AnswerInfo:
    """The answer that a piece belongs to."""

    answer_id: str
    owner: str
    conversation_id: str | None
    model: str
    kind: str = "text"
    """Of this piece: `text` or `reasoning`."""
    state: dict[Any, Any] = field(default_factory=dict)
    """For the hooks' own use while the answer runs, e.g. the last words of a piece."""


@dataclass(frozen=True, kw_only=True)
class AnswerResult:
    """An answer that has ended."""

    answer_id: str
    owner: str
    conversation_id: str | None
    model: str
    status: str
    """`done`, `stopped` or `failed`."""
    text: str
    reasoning: str
    finish_reason: str | None
    usage: dict[str, int] | None
    """`prompt_tokens`, `completion_tokens` and `total_tokens`."""
    usage_source: str | None
    """Where `usage` comes from: `provider` or `estimated`."""
    error: dict[str, Any] | None
    """`code`, `message` and `retryable`, if it failed."""
    created_at: datetime
    seconds: float
    """From the question to the end."""


Before = Callable[[AnswerRequest], None]
DeltaHook = Callable[[AnswerInfo, str], None]
After = Callable[[AnswerResult], None]


class Hooks:
    """The hooks of one chat, called in the order of the lists.

    :param watch: calls them.
    :param surround: makes the context manager around the hooks `before`, `after` and `failed`, e.g.
        the application's context.
    """

    def __init__(
        self,
        watch: StallWatch,
        surround: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        self._watch = watch
        self._surround = surround
        self.before: list[Before] = []
        """May change the request, or raise `Refused`."""
        self.piece: list[DeltaHook] = []
        """Get each piece before any reader does; may raise `StopAnswer`. They must not wait for
        long, since the answer waits for them."""
        self.after: list[After] = []
        """Get each answer that was completed or stopped."""
        self.failed: list[After] = []
        """Get each answer that failed."""

    def prepare(self, request: AnswerRequest) -> None:
        """Let the `before` hooks change the request.

        :raises ChatAppError: as a hook raises it; `InternalError` for any other fault of one.
        """
        if not self.before:
            return
        with self._surround():
            for hook in self.before:
                self._guarded(hook, request)
                if fault := _fault(request):
                    logger.error("hook %s: %s", name_of(hook), fault)
                    raise InternalError(FAULTY)

    def moderated(self, info: AnswerInfo, write: Write) -> Write:
        """Wraps `write`, so that each piece goes through the `piece` hooks first.

        The wrapper raises as `prepare` does, after it has written the pieces before.
        """
        if not self.piece:
            return write

        return lambda deltas: write(self._checked(info, deltas))

    def ended(self, result: AnswerResult) -> None:
        """Call the `after` or the `failed` hooks; never raises."""
        hooks = self.failed if result.status == Status.FAILED else self.after
        for hook in hooks:
            try:
                with self._surround():
                    self._watch.call(hook, result)
            except BaseException:  # as above
                logger.exception("hook %s failed", name_of(hook))

    def _checked(self, info: AnswerInfo, deltas: Deltas) -> Iterator[tuple[EventType, str]]:
        for kind, text in deltas:
            info.kind = "text" if kind is EventType.TEXT else str(kind)
            for hook in self.piece:
                self._guarded(hook, info, text)
            yield kind, text

    def _guarded(self, hook: Callable[..., None], *args: Any) -> None:
        try:
            self._watch.call(hook, *args)
        except ChatAppError:
            raise
        except BaseException:  # `gevent.Timeout` is no Exception, and the answer must end.
            logger.exception("hook %s failed", name_of(hook))
            raise InternalError(FAULTY) from None


FAULTY = "Something went wrong on our side. Try again."


def _fault(request: AnswerRequest) -> str | None:
    """What is wrong with a request that a hook has changed; None: nothing."""
    messages = request.messages
    if not isinstance(messages, list) or not messages:
        return "messages must be a list of at least one message"
    if not all(isinstance(each, dict) and each.get("role") for each in messages):
        return "each message must be a dict with a role"
    if not isinstance(request.model, str) or not request.model:
        return "model must be the name of a model"
    if not isinstance(request.options, dict):
        return "options must be a dict"
    return None
