"""`ChatApp`: the chat as a Flask extension. The only place where the parts meet."""

import functools
import logging
from pathlib import Path
from typing import Any, Final

from flask import Blueprint, Flask, Response, current_app, jsonify
from werkzeug.exceptions import HTTPException

from . import hub, local_model, worker
from .answer import Answer
from .answers import Answers
from .config import Settings
from .connections import StallGuard, cooperative
from .errors import ChatAppError, ConfigError, InternalError
from .parts import Parts
from .push import PushChannel
from .store import Store
from .transport import FastTransport, StockTransport
from .upstream import Upstream
from .views import chat, conversations, identity, operations, page
from .visitors import Visitors, kept_secret

logger = logging.getLogger(__name__)

NAME: Final = "chatapp"
TRANSPORTS: Final = {"fast": FastTransport, "stock": StockTransport}


class ChatApp:
    """The chat, mounted in a Flask application.

    `ChatApp(app, url_prefix="/chat")`, or `init_app` later where the application comes from a
    factory. Options are read from `app.config` (`CHATAPP_*`) and the environment. Of the
    application nothing else is touched.

    :raises ConfigError: an option is unknown or has a wrong value, or the chat is there already.
    """

    def __init__(self, app: Flask | None = None, *, url_prefix: str | None = None) -> None:
        if app is not None:
            self.init_app(app, url_prefix=url_prefix)

    def init_app(self, app: Flask, *, url_prefix: str | None = None) -> None:
        """Mount the chat at `url_prefix`."""
        if NAME in app.extensions:
            raise ConfigError("This application has a chat already; call init_app once.")
        parts = _assemble(app, Settings.load(app.config))
        app.extensions[NAME] = parts
        worker.register(parts)
        app.register_blueprint(_blueprint(app, parts), url_prefix=url_prefix)

    def publish(self, event: str, data: Any, to: str | None = None) -> None:
        """Send an event to every open page, or to those of one owner. Needs an app context.

        :param event: its name, which an `EventSource` listens for.
        :param data: anything that JSON can say.
        :param to: an owner, as `current_owner` names them; None: everyone.
        :raises InvalidRequest: a name or data that can't be sent.
        """
        parts: Parts = current_app.extensions[NAME]
        parts.push.publish(event, data, to)


def _assemble(app: Flask, settings: Settings) -> Parts:
    folder = _folder(app, settings)

    def save(answer: Answer) -> None:
        chat.save(parts, answer)

    parts = Parts(
        settings=settings,
        store=Store(settings.conversations_max_bytes, settings.history_max_messages),
        answers=Answers(settings, save),
        upstream=Upstream(
            settings,
            TRANSPORTS[settings.transport],
            local_model.LocalModel(folder),
            local_model.MODEL_ID if local_model.available() else None,
            lambda: hub.pump if cooperative() else None,
            local_model.missing(),
        ),
        push=PushChannel(settings.push_kept, settings.push_age, settings.push_max_bytes),
        stalls=StallGuard(settings.send_timeout),
    )
    return parts


def _folder(app: Flask, settings: Settings) -> Path:
    return Path(settings.instance or app.instance_path)


def _blueprint(app: Flask, parts: Parts) -> Blueprint:
    blueprint = Blueprint(
        NAME,
        __name__,
        template_folder="templates",
        static_folder="static",
        # Not `/static`: mounted at the root, the application's own folder would come first.
        static_url_path="/assets",
    )

    @functools.cache
    def visitors() -> Visitors:
        # Read late: an application may set its SECRET_KEY after the extensions.
        secret = parts.settings.secret or app.secret_key
        if isinstance(secret, bytes):
            secret = secret.hex()
        return Visitors(secret or kept_secret(_folder(app, parts.settings)))

    identity.register(blueprint, parts.settings, visitors)
    for views in (chat, conversations, page, operations):
        views.register(blueprint, parts)
    blueprint.register_error_handler(ChatAppError, error_response)
    # Written for the operator, who finds it in the log.
    blueprint.register_error_handler(ConfigError, _unexpected)
    blueprint.register_error_handler(Exception, _unexpected)
    return blueprint


def error_response(error: ChatAppError) -> Response:
    """The error body of PROTOCOL.md."""
    response = jsonify(error.body())
    response.status_code = error.status
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(max(round(error.retry_after), 1))
    return response


def _unexpected(error: Exception) -> Response | HTTPException:
    if isinstance(error, HTTPException):
        return error
    if isinstance(error, ConfigError):
        logger.error("%s", error)
        return error_response(InternalError("This server is not set up right; its log says why."))
    logger.error("a request failed", exc_info=error)
    return error_response(InternalError("Something went wrong on our side. Try again."))
