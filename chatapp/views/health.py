"""For operators: liveness, readiness, counters."""

import re
from typing import Final

from flask import Blueprint, Response
from flask.typing import ResponseReturnValue

from ..errors import ChatAppError, Misconfigured, ShuttingDown
from ..service.components import Components
from ..service.metrics import exposition

_PATH: Final = re.compile(r"(?<![\w:/])/[^\s,;()]+")


def register(blueprint: Blueprint, components: Components) -> None:
    """Add the operators' routes, unless they are switched off."""
    if not components.settings.operations:
        return

    @blueprint.get("/healthz")
    def healthz() -> ResponseReturnValue:
        return {"status": "ok"}

    @blueprint.get("/readyz")
    def readyz() -> ResponseReturnValue:
        try:
            if components.service.answers.is_draining():
                raise ShuttingDown("This worker is going down.")
            components.setup.begin()
            components.setup.check()
            components.upstream.check_configured()
        except Misconfigured as error:
            # Anybody may ask. The log has the paths.
            told = error.fields() | {"message": _PATH.sub("…", str(error))}
            return {"status": "not ready", "error": told}, 503
        except ChatAppError as error:
            return {"status": "not ready", "error": error.fields()}, 503
        return {"status": "ready"}

    @blueprint.get("/metrics")
    def metrics() -> ResponseReturnValue:
        return Response(exposition(components.service), content_type="text/plain; version=0.0.4")
