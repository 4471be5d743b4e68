"""For those who run it: liveness, readiness, counters."""

from flask import Blueprint, Response
from flask.typing import ResponseReturnValue

from ..errors import ChatAppError, ShuttingDown
from ..service.components import Parts
from ..service.metrics import exposition


def register(blueprint: Blueprint, parts: Parts) -> None:
    """Add the operations' routes, where they are wanted."""
    if not parts.settings.operations:
        return

    @blueprint.get("/healthz")
    def healthz() -> ResponseReturnValue:
        return {"status": "ok"}

    @blueprint.get("/readyz")
    def readyz() -> ResponseReturnValue:
        try:
            if parts.service.answers.is_leaving() or parts.service.push.leaving:
                raise ShuttingDown("This worker is going down.")
            parts.upstream.check_configured()
        except ChatAppError as error:
            return {"status": "not ready", "error": error.fields()}, 503
        return {"status": "ready"}

    @blueprint.get("/metrics")
    def metrics() -> ResponseReturnValue:
        return Response(exposition(parts.service), content_type="text/plain; version=0.0.4")
