"""Has the upstream write an answer, with the application's hooks and tools around it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..answers.answer import Answer, Deltas, Stream
from ..answers.events import EventType, event_data
from ..answers.registry import AnswerRegistry
from ..answers.text.tokens import estimated_prompt, estimated_tokens
from ..conversations.ledger import Closed, Opened
from ..conversations.ledger_writer import LedgerWriter
from ..conversations.model import Conversation
from ..errors import ChatAppError
from ..identity.owners import outside
from ..settings import Settings
from ..upstream.client import Upstream
from ..upstream.transport import Cancellation
from .continuation import Continuation, interrupted, prefilled
from .history import cut, well_formed
from .hooks import AnswerInfo, AnswerRequest, AnswerResult, Hooks
from .sampling import sampling_of
from .tools.executor import ToolContext
from .tools.registry import Tools
from .tools.rounds import RoundsCancellation, ToolRounds


@dataclass(kw_only=True)
class Prompt:
    """What the model is asked."""

    model: str
    messages: list[dict[str, Any]]
    options: dict[str, Any]


class HookedStream:
    """A `Stream` whose pieces go through the application's hooks before any reader gets them."""

    def __init__(self, stream: Stream, hooks: Hooks, info: AnswerInfo) -> None:
        self._stream = stream
        self._hooks = hooks
        self._info = info

    @property
    def finish_reason(self) -> str | None:
        return self._stream.finish_reason

    @finish_reason.setter
    def finish_reason(self, reason: str | None) -> None:
        self._stream.finish_reason = reason

    def copy(
        self, write: Callable[[Deltas], bool], ended: Callable[[Exception | None], None]
    ) -> None:
        """As `Stream.copy`."""
        self._stream.copy(self._hooks.moderated(self._info, write), ended)

    def usage(self, text: str) -> tuple[dict[str, int], str]:
        return self._stream.usage(text)

    def close(self) -> None:
        self._stream.close()


class Generator:
    """Generates the answers of this worker.

    :param ledger: records further upstream calls of an answer.
    """

    def __init__(
        self,
        settings: Settings,
        upstream: Upstream,
        answers: AnswerRegistry,
        hooks: Hooks,
        tools: Tools,
        ledger: LedgerWriter,
    ) -> None:
        self._settings = settings
        self._upstream = upstream
        self._answers = answers
        self._hooks = hooks
        self._tools = tools
        self._ledger = ledger

    def begin(self, answer: Answer, prompt: Prompt) -> None:
        """Call the upstream, in a thread of its own.

        :raises ChatAppError: a hook refuses the request.
        """
        request = self._prepared(answer, prompt)
        answer.model = request.model
        if len(self._tools):
            self._run_rounds(answer, request)
        else:
            cancellation = Cancellation()
            self._run(answer, lambda: self._open(answer, request, cancellation), cancellation)

    def resume(self, answer: Answer, prompt: Prompt) -> None:
        """Ask the upstream to continue from the answer's text so far.

        :raises ChatAppError: the answer can't be continued.
        """
        if len(self._tools):
            raise ChatAppError("Answers with tools can't be continued. Ask again.")
        request = self._prepared(answer, prompt)
        text = answer.log.text()
        said = estimated_tokens([text, answer.log.text(EventType.REASONING)])
        request.messages, extra = prefilled(request.messages, text, self._settings.prefill)
        self._call_again(answer, request, "interrupted", said)
        cancellation = Cancellation()

        def reopen() -> Stream:
            try:
                return Continuation(self._open(answer, request, cancellation, **extra), text)
            except ChatAppError as error:
                # Before the answer ends: this call has not cost what the answer says.
                self._ledger.call_ends(Closed(answer.id, "refused", running_key=answer.running_key))
                raise interrupted(error) from None

        self._run(answer, reopen, cancellation)

    def ended(self, answer: Answer) -> None:
        """Call the hooks for an answer that has ended."""
        if not (self._hooks.after or self._hooks.failed):
            return
        result = AnswerResult(
            answer_id=answer.id,
            owner=outside(answer.owner),
            conversation_id=answer.conversation_id,
            model=answer.model or "",
            status=str(answer.status),
            text=answer.log.text(),
            reasoning=answer.log.text(EventType.REASONING),
            **answer.outcome.fields(),
            created_at=answer.created_at,
            seconds=(datetime.now(UTC) - answer.created_at).total_seconds(),
        )
        self._hooks.ended(result)

    def _prepared(self, answer: Answer, prompt: Prompt) -> AnswerRequest:
        request = AnswerRequest(
            answer_id=answer.id,
            owner=outside(answer.owner),
            conversation_id=answer.conversation_id,
            model=prompt.model,
            messages=self._sent(prompt.messages),
            options=prompt.options,
        )
        self._hooks.prepare(request)
        return request

    def _sent(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The history as it is sent upstream: with the system prompt, and cut to the budget."""
        if self._settings.system_prompt:
            messages = [{"role": "system", "content": self._settings.system_prompt}, *messages]
        return cut(messages, self._settings.history_max_tokens)

    def _call_again(
        self, answer: Answer, request: AnswerRequest, ended: str, said: int | None = None
    ) -> None:
        """Record how an answer's call ended, and that the upstream is called again."""
        key = answer.running_key
        prompt = estimated_prompt(request.messages)
        self._ledger.call_goes_on(
            Closed(answer.id, ended, running_key=key, said=said),
            Opened.now(answer.id, answer.owner, request.model, prompt, key),
        )

    def _open(
        self, answer: Answer, request: AnswerRequest, cancellation: Cancellation, **extra: Any
    ) -> Any:
        # A hook may wait, so it must not be called from the event loop.
        return self._upstream.open(
            request.model,
            well_formed(request.messages),
            request.options | extra,
            cancellation,
            not self._hooks.piece,
            lambda: self._call_again(answer, request, "refused"),
        )

    def _run_rounds(self, answer: Answer, request: AnswerRequest) -> None:
        relay = RoundsCancellation()
        context = ToolContext(outside(answer.owner), answer.id, answer.conversation_id)

        def open_round(messages: list[dict[str, Any]], may_call: bool) -> Any:
            cancellation = Cancellation()
            relay.enter(cancellation.cancel)
            request.messages = messages
            if answer.accepted:  # The usage of all calls comes with the last one.
                self._call_again(answer, request, "tool_calls")
            extra: dict[str, Any] = {"tools": self._tools.specs()}
            if not may_call:
                extra["tool_choice"] = "none"
            return self._open(answer, request, cancellation, **extra)

        def write_event(kind: EventType, fields: dict[str, Any]) -> None:
            answer.log.append(kind, event_data(fields))
            answer.wake_readers()

        rounds = self._settings.tool_rounds
        self._run(
            answer,
            lambda: ToolRounds(
                open_round, request.messages, self._tools, context, relay, write_event, rounds
            ),
            relay,
        )

    def _run(
        self,
        answer: Answer,
        open_stream: Callable[[], Stream],
        cancellation: Cancellation | RoundsCancellation,
    ) -> None:
        if not self._hooks.piece:
            self._answers.run(answer, open_stream, cancellation)
            return
        info = AnswerInfo(
            answer_id=answer.id,
            owner=outside(answer.owner),
            conversation_id=answer.conversation_id,
            model=answer.model or "",
        )
        self._answers.run(
            answer, lambda: HookedStream(open_stream(), self._hooks, info), cancellation
        )


def prompt_for(
    conversation: Conversation,
    answer_id: str,
    model: str,
    options: dict[str, Any],
    settings: Settings,
) -> Prompt:
    """The prompt for an answer of a conversation: the turns before it, with its settings.

    The request's options take precedence over the conversation's, which only count where clients
    may set any.
    """
    messages = [
        {"role": message.role, "content": message.content.for_upstream()}
        for message in conversation.turns_before(answer_id)
    ]
    own = conversation.settings if settings.client_options else {}
    if prompt := own.get("system_prompt"):
        messages.insert(0, {"role": "system", "content": prompt})
    return Prompt(
        model=model,
        messages=messages,
        options=sampling_of(own, settings.client_max_tokens) | options,
    )
