"""The life of an answer over HTTP: start, follow, look at, stop."""

from typing import Any

from flask import Blueprint, Response, request, url_for
from flask.typing import ResponseReturnValue

from .. import sse
from ..answer import Answer, Status
from ..errors import ChatAppError, InternalError, InvalidRequest, NotFound, ShuttingDown
from ..events import Event, EventType, event_data, timestamp
from ..following import Follower
from ..granularity import Granularity
from ..parts import Parts
from ..store import Conversation, Message
from ..transport import Cancellation
from .identity import owner
from .requests import ChatRequest, chat_request, idempotency_key, json_body
from .streams import stream, whole


def register(blueprint: Blueprint, parts: Parts) -> None:
    """Add the answer routes."""

    @blueprint.post("/api/chat")
    def start_answer() -> ResponseReturnValue:
        asked = chat_request(json_body(parts.settings), parts.settings)
        granularity = _granularity()
        answer = _start(parts, owner(), asked, idempotency_key())
        replies = ["application/json", "text/event-stream"]
        if request.accept_mimetypes.best_match(replies) == replies[1]:
            return _follow(parts, answer, 0, granularity)
        return _reference(answer), 202

    @blueprint.get("/api/answers/<answer_id>")
    def read_answer(answer_id: str) -> ResponseReturnValue:
        if answer := _live(parts, answer_id):
            return _snapshot_of_answer(answer)
        return _snapshot_of_message(parts.store.answer(owner(), answer_id))

    @blueprint.get("/api/answers/<answer_id>/events")
    def follow_answer(answer_id: str) -> ResponseReturnValue:
        cursor = sse.parse_cursor(
            request.headers.get("Last-Event-ID"), request.args.get("last_event_id")
        )
        if answer := _live(parts, answer_id):
            # Asked first: of an answer that is over, no event comes after `last` is read.
            over, last = not answer.running, answer.log.last
            if cursor is not None and cursor > last and not over:
                cursor = None  # It claims what was not written yet: nobody knows what it has.
            if cursor is not None and cursor >= last and over:
                return Response(status=204)
            return _follow(parts, answer, cursor, _granularity())
        message = parts.store.answer(owner(), answer_id)
        if cursor is not None and cursor >= message.last_event:
            return Response(status=204)
        return _frames_of_message(message)

    @blueprint.post("/api/answers/<answer_id>/stop")
    def stop_answer(answer_id: str) -> ResponseReturnValue:
        if answer := _live(parts, answer_id):
            parts.answers.stop(answer)
            return _reference(answer), 202
        message = parts.store.answer(owner(), answer_id)
        about = {"id": message.id, "conversation_id": message.conversation_id}
        return {"answer": about | {"status": message.status}, **_links(message.id)}, 202


def _live(parts: Parts, answer_id: str) -> Answer | None:
    """An answer of this visitor whose log is in memory."""
    answer = parts.answers.find(answer_id)
    return answer if answer and answer.owner == owner() else None


def _start(parts: Parts, owned_by: str, asked: ChatRequest, key: str | None) -> Answer:
    """The running answer to a request: a new one, or the one that its key stands for.

    :raises ChatAppError: the request can't be met, or the upstream refuses it in time.
    """
    if parts.answers.leaving:
        raise ShuttingDown("The server is restarting; try again in 1 s.", retry_after=1)
    model = _chosen_model(parts, asked.model)
    answer, is_new = parts.answers.create(owned_by, key)
    if is_new:
        try:
            _begin(parts, answer, asked, model)
        except Exception as error:
            internal = InternalError("Something went wrong. Try again.")
            _take_back(parts, answer, error if isinstance(error, ChatAppError) else internal)
            raise
    answer.settled.wait(parts.settings.start_wait)
    if answer.error and not answer.accepted:
        if is_new:
            _take_back(parts, answer, answer.error)
        raise answer.error
    return answer


def _take_back(parts: Parts, answer: Answer, error: ChatAppError) -> None:
    """Undo what starting an answer has done: it never began."""
    parts.answers.discard(answer, error)
    if gone := parts.store.withdraw(answer.id):
        fields = {"action": "deleted", "id": gone, "title": None}
        parts.push.publish("conversation", fields, to=answer.owner)


def _chosen_model(parts: Parts, wanted: str | None) -> str:
    if wanted is None:
        return parts.upstream.default_model()
    offered = parts.upstream.models()
    if wanted not in offered:
        raise InvalidRequest(
            f"This model is not offered here. Choose one of: {', '.join(offered)}.", param="model"
        )
    return wanted


def _begin(parts: Parts, answer: Answer, asked: ChatRequest, model: str) -> None:
    answer.model = model
    messages = asked.messages
    if messages is None:
        conversation = _record(parts, answer, asked)
        answer.conversation_id = conversation.id
        parts.store.update(answer.id, model=model)
        messages = _history(conversation)
    if parts.settings.system_prompt:
        messages = [{"role": "system", "content": parts.settings.system_prompt}, *messages]
    cancellation = Cancellation()
    parts.answers.run(
        answer,
        lambda: parts.upstream.open(model, messages, asked.options, cancellation),
        cancellation,
    )
    _publish(parts, answer, "started")


def _record(parts: Parts, answer: Answer, asked: ChatRequest) -> Conversation:
    if asked.regenerate is not None:
        return parts.store.ask_again(answer.owner, asked.regenerate, answer.id)
    conversation = parts.store.ask(
        answer.owner, asked.conversation_id, asked.message or "", answer.id, asked.edit
    )
    if asked.conversation_id is None:
        fields = {"action": "created", "id": conversation.id, "title": conversation.title}
        parts.push.publish("conversation", fields, to=answer.owner)
    return conversation


def _history(conversation: Conversation) -> list[dict[str, Any]]:
    """What the upstream gets: the path to the question, without answers that came to nothing."""
    return [
        {"role": message.role, "content": message.content}
        for message in conversation.path()
        if message.content
    ]


def save(parts: Parts, answer: Answer) -> None:
    """Keep what an answer has become; called before its last event is written."""
    if answer.conversation_id is not None:
        error = answer.error
        parts.store.update(
            answer.id,
            content=answer.log.text(),
            reasoning=answer.log.text(EventType.REASONING),
            status=str(answer.status),
            finish_reason=answer.finish_reason,
            usage=answer.usage,
            usage_source=answer.usage_source,
            error=error.fields() if error else None,
            last_event=answer.log.last + 1,
        )
    _publish(parts, answer, "finished")


def _publish(parts: Parts, answer: Answer, action: str) -> None:
    fields = {
        "action": action,
        "id": answer.id,
        "conversation_id": answer.conversation_id,
        "status": answer.status,
    }
    parts.push.publish("answer", fields, to=answer.owner)


def _granularity() -> Granularity:
    try:
        return Granularity(request.args.get("granularity", Granularity.TOKEN))
    except ValueError:
        raise InvalidRequest(
            f"granularity is one of: {', '.join(Granularity)}.", param="granularity"
        ) from None


def _follow(parts: Parts, answer: Answer, cursor: int | None, granularity: Granularity) -> Response:
    follower = Follower(answer, cursor, granularity, lambda: parts.answers.leaving)
    response = stream(parts, follower)
    response.headers["X-Answer-Id"] = answer.id
    return response


def _links(answer_id: str) -> dict[str, str]:
    return {
        "events": url_for("chatapp.follow_answer", answer_id=answer_id),
        "stop": url_for("chatapp.stop_answer", answer_id=answer_id),
    }


def _reference(answer: Answer) -> dict[str, Any]:
    about = {
        "id": answer.id,
        "conversation_id": answer.conversation_id,
        "status": answer.status,
    }
    return {"answer": about, **_links(answer.id)}


def _snapshot_of_answer(answer: Answer) -> dict[str, Any]:
    number, fields = answer.snapshot()
    return {
        "id": answer.id,
        "conversation_id": answer.conversation_id,
        "model": answer.model,
        **fields,
        "finish_reason": answer.finish_reason,
        "usage": answer.usage,
        "usage_source": answer.usage_source,
        "error": answer.error.fields() if answer.error else None,
        "last_event": number,
        "created_at": timestamp(answer.created_at),
        **_links(answer.id),
    }


def _snapshot_of_message(message: Message) -> dict[str, Any]:
    return {
        "id": message.id,
        "conversation_id": message.conversation_id,
        "model": message.model,
        "text": message.content,
        "reasoning": message.reasoning,
        "status": message.status,
        "finish_reason": message.finish_reason,
        "usage": message.usage,
        "usage_source": message.usage_source,
        "error": message.error,
        "last_event": message.last_event,
        "created_at": timestamp(message.created_at),
        **_links(message.id),
    }


def _frames_of_message(message: Message) -> Response:
    """Snapshot and end of an answer whose log is gone."""
    if message.status not in (Status.DONE, Status.FAILED, Status.STOPPED):
        raise NotFound("There is no such answer.")
    text = {"text": message.content, "reasoning": message.reasoning, "status": message.status}
    end = {name: getattr(message, name) for name in ("finish_reason", "usage", "usage_source")}
    last = message.last_event
    frames = sse.encode(Event(last - 1, EventType.SNAPSHOT, event_data(text)))
    if message.error:
        frames += sse.encode(Event(last, EventType.FAILED, event_data(message.error)))
    else:
        frames += sse.encode(Event(last, EventType.DONE, event_data(end)))
    response = whole(frames)
    response.headers["X-Answer-Id"] = message.id
    return response
