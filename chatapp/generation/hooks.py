"""The application's own functions around an answer: before it, at each piece, and at its end.

Who refuses, does so by an exception, and a fault counts as a refusal: a question that could not be
checked is not asked, and a piece that could not be checked is not shown. What fails after the end
of an answer only goes to the log.
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
    """What the model is about to be asked. A `before` hook may change the last three."""

    answer_id: str
    owner: str
    conversation_id: str | None
    """None where a whole history was sent, which belongs to no conversation."""
    model: str
    """Any model of the upstream's, also one that a visitor can't choose."""
    messages: list[dict[str, Any]]
    """In OpenAI's form, the new question last. Changes are for this answer; they are not kept."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further parameters of the request by OpenAI's names, e.g. `temperature`."""


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
    """For the hooks' own notes, e.g. the last words of the piece before; kept for this answer."""


@dataclass(frozen=True, kw_only=True)
class AnswerResult:
    """An answer that is over."""

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
    """Who counted: `provider` or `estimated`."""
    error: dict[str, Any] | None
    """`code`, `message` and `retryable` of one that failed."""
    created_at: datetime
    seconds: float
    """From the question to the end."""


Before = Callable[[AnswerRequest], None]
DeltaHook = Callable[[AnswerInfo, str], None]
After = Callable[[AnswerResult], None]


class Hooks:
    """The hooks of one chat, called in the order of the lists.

    :param watch: calls them.
    :param surround: makes what is entered around the hooks `before`, `after` and `failed`, e.g.
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
        long: the answer waits with them."""
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
        """`write`, each piece of which goes through the `piece` hooks first.

        What it returns raises as `prepare` does; the pieces before are written then.
        """
        if not self.piece:
            return write

        return lambda deltas: write(self._checked(info, deltas))

    def ended(self, result: AnswerResult) -> None:
        """Tell the `after` or the `failed` hooks; never raises."""
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
    """What a hook has made of the request that can't be asked."""
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
