"""Conversations over HTTP."""

from typing import Any

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from ..errors import InvalidRequest, NotFound
from ..events import timestamp
from ..parts import Parts
from ..store import TITLE_MAX_CHARS, Conversation, Message
from .identity import owner
from .requests import json_body, refuse_unknown, text_field

PAGE_DEFAULT = 50
PAGE_MOST = 200


def register(blueprint: Blueprint, parts: Parts) -> None:
    """Add the conversation routes."""
    store = parts.store

    def publish(action: str, conversation_id: str, title: str | None) -> None:
        fields = {"action": action, "id": conversation_id, "title": title}
        parts.push.publish("conversation", fields, to=owner())

    def title_given() -> str | None:
        has_body = request.content_length or "Transfer-Encoding" in request.headers
        body = json_body(parts.settings) if has_body else {}
        refuse_unknown(body, ("title",))
        title = body.get("title")
        return None if title is None else text_field("title", title, TITLE_MAX_CHARS)

    @blueprint.get("/api/conversations")
    def list_conversations() -> ResponseReturnValue:
        page, following = store.page(owner(), _cursor(), _limit())
        return {
            "conversations": [summary(each) for each in page],
            "next_cursor": None if following is None else str(following),
        }

    @blueprint.post("/api/conversations")
    def create_conversation() -> ResponseReturnValue:
        conversation = store.create(owner(), title_given())
        publish("created", conversation.id, conversation.title)
        return summary(conversation), 201

    @blueprint.get("/api/conversations/<conversation_id>")
    def read_conversation(conversation_id: str) -> ResponseReturnValue:
        conversation = store.get(owner(), conversation_id)
        messages = [_shown(parts, message) for message in conversation.path()]
        return summary(conversation) | {"messages": messages}

    @blueprint.patch("/api/conversations/<conversation_id>")
    def rename_conversation(conversation_id: str) -> ResponseReturnValue:
        title = title_given()
        if title is None:
            raise InvalidRequest("Send the new title.", param="title")
        conversation = store.rename(owner(), conversation_id, title)
        publish("renamed", conversation.id, conversation.title)
        return summary(conversation)

    @blueprint.delete("/api/conversations/<conversation_id>")
    def delete_conversation(conversation_id: str) -> ResponseReturnValue:
        for answer_id in store.delete(owner(), conversation_id):
            if answer := parts.answers.find(answer_id):
                parts.answers.stop(answer)
                parts.answers.discard(answer, NotFound("This conversation was deleted."))
        publish("deleted", conversation_id, None)
        return "", 204


def _cursor() -> int | None:
    given = request.args.get("cursor")
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) < 19):
        raise InvalidRequest("This cursor was not given by us.", param="cursor")
    return int(given)


def _limit() -> int:
    given = request.args.get("limit", str(PAGE_DEFAULT))
    known = given.isascii() and given.isdecimal() and len(given) < 9
    if not known or not 1 <= int(given) <= PAGE_MOST:
        raise InvalidRequest(f"limit is a number from 1 to {PAGE_MOST}.", param="limit")
    return int(given)


def summary(conversation: Conversation) -> dict[str, Any]:
    """A conversation without its messages."""
    return {
        "id": conversation.id,
        "title": conversation.title,
        "created_at": timestamp(conversation.created_at),
        "updated_at": timestamp(conversation.updated_at),
    }


def _shown(parts: Parts, message: Message) -> dict[str, Any]:
    """A message; that of a running answer as far as it is written."""
    shown = {
        "id": message.id,
        "role": message.role,
        "content": message.content,
        "reasoning": message.reasoning,
        "status": message.status,
        "model": message.model,
        "finish_reason": message.finish_reason,
        "usage": message.usage,
        "usage_source": message.usage_source,
        "error": message.error,
        "created_at": timestamp(message.created_at),
    }
    answer = parts.answers.find(message.id)
    if answer and answer.running:
        _, fields = answer.snapshot()
        text = {"content": fields["text"], "reasoning": fields["reasoning"]}
        shown |= text | {"status": answer.status}
    return shown
