"""The chat page, the models it may offer, and its push channel."""

from typing import Any, Final

from flask import Blueprint, Response, render_template, request, url_for
from flask.typing import ResponseReturnValue

from ..errors import ChatAppError, UpstreamUnconfigured
from ..parts import Parts
from ..push import PushReader
from .identity import owner
from .streams import stream

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'self'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
LOCAL_NOTICE: Final = "Local demo model; set OPENAI_API_KEY for a real one."


def register(blueprint: Blueprint, parts: Parts) -> None:
    """Add the page and what it loads beside answers and conversations."""

    @blueprint.get("/")
    @blueprint.get("/c/<conversation_id>")
    def page(conversation_id: str | None = None) -> ResponseReturnValue:
        del conversation_id  # The page's script reads it from the address.
        owner()
        html = render_template("chatapp/page.html", urls=_urls(), title=parts.settings.title)
        response = Response(html)
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers["Cache-Control"] = "no-store"
        return response

    @blueprint.get("/api/models")
    def list_models() -> ResponseReturnValue:
        try:
            models = parts.upstream.models()
        except UpstreamUnconfigured as error:
            return _models([], error.code, error.message)
        except ChatAppError as error:
            return _models(list(parts.settings.models), error.code, error.message)
        if parts.upstream.is_local:
            return _models(models, "local_model", LOCAL_NOTICE)
        return _models(models)

    @blueprint.get("/api/events")
    def push_events() -> ResponseReturnValue:
        cursor = request.headers.get("Last-Event-ID") or request.args.get("last_event_id")
        return stream(parts, PushReader(parts.push, owner(), cursor))


def _models(ids: list[str], code: str | None = None, message: str | None = None) -> dict[str, Any]:
    return {
        "models": [{"id": each} for each in ids],
        "default": ids[0] if ids else None,
        "notice": {"code": code, "message": message} if code else None,
    }


def _urls() -> dict[str, str]:
    """Where the page's script finds things; those that end in `/` want an id behind them."""
    answers = url_for("chatapp.read_answer", answer_id="-")
    conversation = url_for("chatapp.page", conversation_id="-")
    return {
        "page": url_for("chatapp.page"),
        "conversation_page": conversation[:-1],
        "chat": url_for("chatapp.start_answer"),
        "answers": answers[:-1],
        "conversations": url_for("chatapp.list_conversations"),
        "models": url_for("chatapp.list_models"),
        "push": url_for("chatapp.push_events"),
    }
