"""The life of an answer over HTTP: start, follow, look at, stop."""

import contextlib
from typing import Any

from flask import Blueprint, Response, request, url_for
from flask.typing import ResponseReturnValue

from ..answers import sse
from ..answers.answer import Answer
from ..answers.events import start_event, timestamp
from ..answers.outcome import RUNNING, Transcript
from ..answers.text.granularity import Granularity
from ..conversations.store import Message
from ..delivery.follower import Follower
from ..delivery.stored_answer import frames_of_stored_answer
from ..errors import InvalidRequest, NotFound, StorageUnavailable
from ..service.components import Components
from ..service.open_streams import OpenStream
from .auth import current_owner, payer, reader_of, ticket
from .responses import open_stream, stream, whole
from .validation import chat_request, idempotency_key, json_body


def register(blueprint: Blueprint, components: Components) -> None:
    """Add the answer routes."""

    @blueprint.post("/api/chat")
    def start_answer() -> ResponseReturnValue:
        asked = chat_request(json_body(components.settings), components.settings)
        granularity = _granularity()
        streams = _wants_stream()
        key, cursor = idempotency_key(), _cursor()
        if cursor != 0:
            if key is None:
                raise InvalidRequest(
                    "A question with a Last-Event-ID needs the Idempotency-Key that it had.",
                    param="Idempotency-Key",
                )
            asked.resumes = True

        # A client without a stream follows later, perhaps on another worker.
        def start() -> Answer:
            return components.service.start(
                current_owner(), asked, key, visible_everywhere=not streams, payer=payer()
            )

        if not streams:
            return _reference(start()), 202
        with open_stream(components, current_owner()) as place:
            return _follow_from(components, start(), cursor, granularity, place)

    @blueprint.get("/api/answers/<answer_id>")
    def read_answer(answer_id: str) -> ResponseReturnValue:
        answer = components.service.find(current_owner(), answer_id)
        if answer is None:
            return _snapshot_of_message(components.store.answer(current_owner(), answer_id))
        if answer.running and components.service.is_elsewhere(answer):
            # Its message may be saved while its last events have not arrived here yet.
            with contextlib.suppress(NotFound, StorageUnavailable):
                message = components.store.answer(current_owner(), answer_id)
                if message.status not in RUNNING:
                    return _snapshot_of_message(message)
        return _snapshot_of_answer(answer)

    @blueprint.get("/api/answers/<answer_id>/events")
    def follow_answer(answer_id: str) -> ResponseReturnValue:
        reader, granularity, cursor = reader_of(answer_id), _granularity(), _cursor()
        if answer := components.service.find(reader, answer_id):
            with open_stream(components, reader) as place:
                return _follow_from(components, answer, cursor, granularity, place)
        message = _ended(components.store.answer(reader, answer_id))
        if cursor is not None and cursor >= message.last_event:
            return Response(status=204)
        response = whole(_frames_of_message(message, from_the_start=cursor == 0))
        response.headers["X-Answer-Id"] = message.id
        return response

    @blueprint.post("/api/answers/<answer_id>/stop")
    def stop_answer(answer_id: str) -> ResponseReturnValue:
        if answer := components.service.find(current_owner(), answer_id):
            components.service.stop(answer)
            return _reference(answer), 202
        message = _ended(components.store.answer(current_owner(), answer_id))
        about = {"id": message.id, "conversation_id": message.conversation_id}
        return {"answer": about | {"status": message.status}, **_links(message.id)}, 202


def _wants_stream() -> bool:
    """Whether `Accept` names an event stream, and does not prefer JSON."""
    best_last = reversed(request.accept_mimetypes)
    accepted = {kind.partition(";")[0].strip().lower(): quality for kind, quality in best_last}
    stream = accepted.get("text/event-stream", accepted.get("text/*", 0.0))
    return 0 < stream >= accepted.get("application/json", 0.0)


def _granularity() -> Granularity:
    try:
        return Granularity(request.args.get("granularity", Granularity.TOKEN))
    except ValueError:
        raise InvalidRequest(
            f"granularity must be one of: {', '.join(Granularity)}.", param="granularity"
        ) from None


def _cursor() -> int | None:
    """As `sse.parse_cursor`."""
    return sse.parse_cursor(request.headers.get("Last-Event-ID"), request.args.get("last_event_id"))


def _follow_from(
    components: Components,
    answer: Answer,
    cursor: int | None,
    granularity: Granularity,
    place: OpenStream,
) -> Response:
    """The answer's stream behind the cursor; 204 if nothing will follow."""
    if cursor:
        components.service.catch_up(answer, cursor)
        # Checked first: if it has ended by now, `last` is final.
        over, last = not answer.running, answer.log.last
        if cursor >= last and over:
            return Response(status=204)
        if cursor > last:
            cursor = None  # It names an event that does not exist: what it has is unknown.
    follower = Follower(answer, cursor, granularity, components.service.answers.is_draining)
    response = stream(components, follower, place)
    response.headers["X-Answer-Id"] = answer.id
    return response


def _links(answer_id: str) -> dict[str, str]:
    return {
        "events": url_for(".follow_answer", answer_id=answer_id, ticket=ticket(answer_id)),
        "stop": url_for(".stop_answer", answer_id=answer_id),
    }


def _reference(answer: Answer) -> dict[str, Any]:
    about = {
        "id": answer.id,
        "conversation_id": answer.conversation_id,
        "status": answer.shown_status,
    }
    return {"answer": about, **_links(answer.id)}


def _snapshot_of_answer(answer: Answer) -> dict[str, Any]:
    transcript = answer.log.transcript()
    return _snapshot(answer, transcript, answer.shown_status)


def _snapshot_of_message(message: Message) -> dict[str, Any]:
    return _snapshot(message, message.transcript, message.status)


def _snapshot(of: Answer | Message, transcript: Transcript, status: str) -> dict[str, Any]:
    return {
        "id": of.id,
        "conversation_id": of.conversation_id,
        "model": of.model,
        **transcript.fields(),
        "status": status,
        **of.outcome.fields(),
        "last_event": transcript.number,
        "created_at": timestamp(of.created_at),
        **_links(of.id),
    }


def _ended(message: Message) -> Message:
    """A message whose log is gone.

    :raises StorageUnavailable: it is still being written; the event log will have it.
    """
    if message.status in RUNNING:
        unread = "This can't be read at the moment. Try again in 1 s."
        raise StorageUnavailable(unread, retry_after=1)
    return message


def _frames_of_message(message: Message, *, from_the_start: bool) -> bytes:
    about = (message.id, message.conversation_id, message.model, message.created_at)
    start = start_event(*about) if from_the_start else None
    return frames_of_stored_answer(start, message.transcript, message.status, message.outcome)
