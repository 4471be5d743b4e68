"""The chat page, the models it may offer, and its push channel."""

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from flask import Blueprint, Response, render_template, request, url_for
from flask.typing import ResponseReturnValue

from ..errors import ChatAppError, UpstreamUnconfigured
from ..replication.pubsub import PushReader
from ..service.components import Components
from . import assets
from .auth import current_owner
from .headers import protect_page
from .responses import open_stream, stream

MODULES: Final = sorted(
    path.relative_to(assets.STATIC).as_posix() for path in assets.STATIC.rglob("*.js")
)
FIRST_MODULES: Final = [name for name in MODULES if not name.startswith("markdown/")]
"""What a page without messages needs; the script fetches the rest when somebody types."""
TEMPLATES: Final = Path(__file__).parent.parent / "templates" / "chatapp"
LANGUAGES: Final = {"en": "English", "zh-CN": "简体中文"}
TEXTS: Final[dict[str, dict[str, Any]]] = {
    tag: json.loads((TEMPLATES / f"texts.{tag}.json").read_text("utf-8")) for tag in LANGUAGES
}
"""The page's texts by language: `page` for the HTML, `script` for the script."""
SHORTCUTS: Final = (
    ("Enter", "keySend"),
    ("Shift Enter", "keyLine"),
    ("↑", "keyEdit"),
    ("Ctrl/⌘ Enter", "keySendEdit"),
    ("Esc", "keyStop"),
    ("Shift Esc", "keyFocus"),
    ("Ctrl/⌘ Shift O", "keyNew"),
    ("Ctrl/⌘ K", "keySearch"),
    ("Ctrl/⌘ Shift S", "keyToggle"),
    ("Ctrl/⌘ Shift C", "keyCopy"),
    ("Ctrl/⌘ /", "keyHelp"),
)
COMMANDS: Final = {
    "mod+shift+o": "fresh",
    "mod+k": "search",
    "mod+/": "help",
    "mod+shift+s": "toggle",
    "mod+shift+c": "copyNewest",
    "shift+escape": "focus",
    "escape": "escape",
    "arrowup": "editNewest",
}
"""Keyboard shortcuts and the texts that describe them."""
LOCAL_NOTICE: Final = "Local demo model; set OPENAI_API_KEY for a real one."


def register(blueprint: Blueprint, components: Components) -> None:
    """Add the page, and what it loads apart from answers and conversations."""
    assets.register(blueprint)

    @blueprint.get("/")
    @blueprint.get("/c/<conversation_id>")
    def page(conversation_id: str | None = None) -> ResponseReturnValue:
        current_owner()
        return _html(
            "chatapp/page.html",
            urls=_urls(),
            title=components.settings.title,
            modules=MODULES if conversation_id else FIRST_MODULES,
        )

    @blueprint.get("/api/page")
    def chat_box() -> ResponseReturnValue:
        """What `<chat-box>` is made of, in the reader's language."""
        language = _language(request.args.get("lang", ""))
        texts = TEXTS[language]
        config = {
            "title": components.settings.title,
            "urls": _urls(),
            "visitor": hashlib.sha256(current_owner().encode()).hexdigest()[:16],
            "shortcuts": COMMANDS,
            "message_max_chars": components.settings.message_max_chars,
        }
        return _html(
            "chatapp/chat.html",
            language=language,
            is_page="page" in request.args,
            languages=LANGUAGES,
            t=texts["page"],
            texts=texts["script"],
            config=config,
            settings=components.settings,
            shortcuts=SHORTCUTS,
        )

    @blueprint.get("/api/models")
    def list_models() -> ResponseReturnValue:
        current_owner()
        try:
            models = components.upstream.models()
        except UpstreamUnconfigured as error:
            return _models([], error.code, error.message)
        except ChatAppError as error:
            return _models(list(components.settings.models), error.code, error.message)
        if components.upstream.is_local:
            return _models(models, "local_model", LOCAL_NOTICE)
        return _models(models)

    @blueprint.get("/api/events")
    def push_events() -> ResponseReturnValue:
        cursor = request.headers.get("Last-Event-ID") or request.args.get("last_event_id")
        with open_stream(components, current_owner()) as place:
            reader = PushReader(components.service.pubsub, current_owner(), cursor)
            return stream(components, reader, place)


def _html(template: str, **context: Any) -> Response:
    response = Response(render_template(template, **context))
    protect_page(response)
    # The HTML has no secret, and reflects nothing of the request but the language.
    assets.compress(response)
    return response


def _language(wanted: str) -> str:
    """The first available one of the wanted languages (BCP 47 tags), else English."""
    for tag in wanted.lower().split(","):
        for language in LANGUAGES:
            if language[:2] == tag.strip()[:2]:
                return language
    return "en"


def _models(ids: list[str], code: str | None = None, message: str | None = None) -> dict[str, Any]:
    return {
        "models": [{"id": each} for each in ids],
        "default": ids[0] if ids else None,
        "notice": {"code": code, "message": message} if code else None,
    }


def _urls() -> dict[str, str]:
    """The script's URLs; an id is appended to those that end in `/`."""
    answers = url_for(".read_answer", answer_id="-")
    conversation = url_for(".page", conversation_id="-")
    return {
        "page": url_for(".page"),
        "conversation_page": conversation[:-1],
        "chat": url_for(".start_answer"),
        "answers": answers[:-1],
        "conversations": url_for(".list_conversations"),
        "models": url_for(".list_models"),
        "push": url_for(".push_events"),
    }
