"""Stream model answers from Flask, and resume them mid-sentence."""

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

from .errors import (
    ChatAppError,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    Refused,
    StopAnswer,
)
from .extension import ChatApp
from .generation.hooks import AnswerInfo, AnswerRequest, AnswerResult
from .generation.tools.executor import ToolContext
from .generation.tools.registry import ToolError
from .settings import Settings
from .views.blueprint import error_response
from .views.headers import protect

__all__ = [
    "AnswerInfo",
    "AnswerRequest",
    "AnswerResult",
    "ChatApp",
    "ChatAppError",
    "Refused",
    "Settings",
    "StopAnswer",
    "ToolContext",
    "ToolError",
    "create_app",
]


def create_app() -> Flask:
    """The application that `wsgi.py` serves: the chat at `/`, and nothing else."""
    app = Flask(__name__, static_folder=None)
    settings = ChatApp().init_app(app)
    if proxies := settings.trusted_proxies:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign] # as Flask's docs do it
            app.wsgi_app, proxies, proxies, proxies, proxies, proxies
        )

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response | HTTPException:
        """Errors outside all routes: a JSON body for programs, a page for people."""
        if not request.path.startswith("/api/"):
            return error
        known: dict[int | None, ChatAppError] = {
            404: NotFound("This address does not exist."),
            405: MethodNotAllowed("This address does not support this method."),
        }
        if error.code and error.code >= 500:
            return error_response(InternalError("Something went wrong on our side. Try again."))
        fallback = InvalidRequest("The server can't understand this request.")
        response = error_response(known.get(error.code, fallback))
        response.headers.extend(
            (name, value) for name, value in error.get_headers() if name == "Allow"
        )
        return response

    app.after_request(protect)  # Also where no route of the chat's replies.
    return app
