"""Conversations over HTTP."""

from typing import Any, Final

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from ..answers.events import timestamp
from ..answers.outcome import RUNNING
from ..conversations.store import ID, MAX_TITLE_CHARS, Conversation, Message
from ..errors import InvalidRequest
from ..service.components import Components
from .auth import current_owner, payer
from .text_fields import text_field
from .validation import conversation_settings, json_body, refuse_unknown

PAGE_DEFAULT: Final = 50
MAX_PAGE_SIZE: Final = 200
MAX_QUERY_CHARS: Final = 200


def register(blueprint: Blueprint, components: Components) -> None:
    """Add the conversation routes."""
    store = components.store

    def publish(action: str, conversation_id: str, title: str | None) -> None:
        fields = {"action": action, "id": conversation_id, "title": title}
        components.service.pubsub.publish("conversation", fields, to=current_owner())

    def body_of(*known: str) -> dict[str, Any]:
        """The given ones of these fields, validated."""
        has_body = request.content_length or "Transfer-Encoding" in request.headers
        body = json_body(components.settings) if has_body else {}
        refuse_unknown(body, known)
        body = {name: value for name, value in body.items() if value is not None}
        if "title" in body:
            text_field("title", body["title"], MAX_TITLE_CHARS)
        if "leaf" in body:
            _check_id("leaf", body["leaf"])
        if "settings" in body:
            body["settings"] = conversation_settings(body["settings"], components.settings)
        return body

    @blueprint.get("/api/conversations")
    def list_conversations() -> ResponseReturnValue:
        page, following = store.page(
            current_owner(), request.args.get("cursor"), _limit(), _query()
        )
        return {"conversations": [summary(each) for each in page], "next_cursor": following}

    @blueprint.post("/api/conversations")
    def create_conversation() -> ResponseReturnValue:
        body = body_of("title", "settings")
        components.service.limits.check_conversation(payer())
        conversation = store.create(current_owner(), **body)
        publish("created", conversation.id, conversation.title)
        return summary(conversation) | {"settings": conversation.settings}, 201

    @blueprint.get("/api/conversations/<conversation_id>")
    def read_conversation(conversation_id: str) -> ResponseReturnValue:
        conversation = store.get(current_owner(), conversation_id)
        siblings = conversation.siblings()
        messages = [
            _shown(components, message, siblings[message.parent, message.role])
            for message in conversation.path()
        ]
        about = summary(conversation) | {"settings": conversation.settings}
        return about | {"messages": messages}

    @blueprint.patch("/api/conversations/<conversation_id>")
    def change_conversation(conversation_id: str) -> ResponseReturnValue:
        body = body_of("title", "leaf", "settings")
        if not body:
            raise InvalidRequest("Send a title, a leaf or settings.", param="title")
        conversation = store.change(current_owner(), conversation_id, **body)
        if "title" in body:
            publish("renamed", conversation.id, conversation.title)
        if len(body) > ("title" in body):
            publish("changed", conversation.id, conversation.title)
        return summary(conversation) | {"settings": conversation.settings}

    @blueprint.delete("/api/conversations/<conversation_id>")
    def delete_conversation(conversation_id: str) -> ResponseReturnValue:
        components.service.forget(store.delete(current_owner(), conversation_id))
        publish("deleted", conversation_id, None)
        return "", 204


def _check_id(name: str, value: Any) -> None:
    if not isinstance(value, str) or not ID.fullmatch(value):
        raise InvalidRequest(f"{name} is not a valid id.", param=name)


def _limit() -> int:
    given = request.args.get("limit", str(PAGE_DEFAULT))
    known = given.isascii() and given.isdecimal() and len(given) < 9
    if not known or not 1 <= int(given) <= MAX_PAGE_SIZE:
        raise InvalidRequest(f"limit must be a number from 1 to {MAX_PAGE_SIZE}.", param="limit")
    return int(given)


def _query() -> str | None:
    given = request.args.get("q", "").strip()
    if len(given) > MAX_QUERY_CHARS:
        raise InvalidRequest(
            f"q has {len(given)} characters; {MAX_QUERY_CHARS} are allowed.", param="q"
        )
    return given or None


def summary(conversation: Conversation) -> dict[str, Any]:
    """A conversation without its messages."""
    return {
        "id": conversation.id,
        "title": conversation.title,
        "created_at": timestamp(conversation.created_at),
        "updated_at": timestamp(conversation.updated_at),
    }


def _shown(components: Components, message: Message, siblings: list[str]) -> dict[str, Any]:
    """A message; if its answer is running, with the text so far."""
    shown = {
        "id": message.id,
        "parent": message.parent,
        "siblings": siblings,
        "role": message.role,
        "content": message.content.text,
        "reasoning": message.reasoning,
        "status": message.status,
        "model": message.model,
        **message.outcome.fields(),
        "created_at": timestamp(message.created_at),
    }
    if message.status in RUNNING and (
        answer := components.service.find(current_owner(), message.id)
    ):
        written = answer.log.transcript()
        text = {"content": written.text, "reasoning": written.reasoning}
        shown |= text | {"status": answer.shown_status}
    return shown
