"""The chat's routes as one blueprint, and its errors as replies."""

import functools
import logging
from collections.abc import Callable
from typing import Final

from flask import Blueprint, Response, jsonify
from werkzeug.exceptions import HTTPException

from ..errors import ChatAppError, ConfigError, InternalError, Misconfigured
from ..identity.tickets import Tickets
from ..identity.visitor_cookie import Visitors
from ..runtime.stall_watch import StallWatch
from ..service.components import Components
from . import answers, auth, conversations, health, page

logger = logging.getLogger(__name__)

PACKAGE: Final = __name__.partition(".")[0]
"""Templates are found from here."""


def build_blueprint(
    components: Components,
    name: str,
    log_in: Callable[[], Callable[[], object] | None],
    watch: StallWatch,
) -> Blueprint:
    blueprint = Blueprint(name, PACKAGE, template_folder="templates")
    who = auth.Identity(
        chat=name,
        settings=components.settings,
        log_in=log_in,
        watch=watch,
        visitors=functools.cache(lambda: Visitors(components.secrets())),
        admit_visitor=components.service.limits.check_visitor,
        tickets=functools.cache(
            lambda: Tickets(components.secrets(), components.settings.ticket_age, name)
        ),
    )
    auth.register(blueprint, who)
    for views in (answers, conversations, page, health):
        views.register(blueprint, components)
    blueprint.register_error_handler(ChatAppError, error_response)
    blueprint.register_error_handler(Misconfigured, error_response)
    # Its message is for the operator, in the log.
    blueprint.register_error_handler(ConfigError, _unexpected)
    blueprint.register_error_handler(Exception, _unexpected)
    return blueprint


def error_response(error: ChatAppError) -> Response:
    """The error body of the wire protocol."""
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
        return error_response(InternalError("This server is misconfigured. Its log says why."))
    logger.error("a request failed", exc_info=error)
    return error_response(InternalError("Something went wrong on our side. Try again."))
