"""Who is asking, and from where."""

from collections.abc import Callable

from flask import Blueprint, Response, g, request, url_for

from ..config import Settings
from ..errors import CrossSite
from ..visitors import COOKIE, COOKIE_MAX_AGE, Visitors

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def register(blueprint: Blueprint, settings: Settings, visitors: Callable[[], Visitors]) -> None:
    """Guard a blueprint's routes against other sites, and send new visitors their cookie."""

    @blueprint.before_request
    def guard() -> Response | None:
        g.chatapp_visitors = visitors
        if request.method == "OPTIONS":
            return Response(status=204)
        if request.method not in SAFE_METHODS:
            _refuse_other_sites(settings)
        return None

    @blueprint.after_request
    def finish(response: Response) -> Response:
        if cookie := g.pop("chatapp_cookie", None):
            response.set_cookie(
                COOKIE,
                cookie,
                max_age=COOKIE_MAX_AGE,
                path=url_for("chatapp.page"),
                secure=request.is_secure,
                httponly=True,
                samesite="Lax",
            )
        if settings.cors_origins:
            _allow_origin(response, settings.cors_origins)
        return response


def owner() -> str:
    """The owner of what this request makes and reads; a new one for who was never here."""
    if "chatapp_owner" not in g:
        visitors: Visitors = g.chatapp_visitors()
        known = visitors.read(request.cookies.get(COOKIE, ""))
        if known is None:
            known, g.chatapp_cookie = visitors.new()
        g.chatapp_owner = known
    return str(g.chatapp_owner)


def _refuse_other_sites(settings: Settings) -> None:
    """A browser says where a request comes from; other clients don't, and have no cookie to abuse.

    :raises CrossSite:
    """
    origin = request.headers.get("Origin")
    if origin in settings.cors_origins:
        return
    if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
        raise CrossSite("This request comes from another site, which is not allowed to make it.")


def _allow_origin(response: Response, origins: tuple[str, ...]) -> None:
    """[fetch] CORS; one origin is named, never `*`, for the cookie goes with the request."""
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin not in origins:
        return
    allow = response.headers
    allow["Access-Control-Allow-Origin"] = origin
    allow["Access-Control-Allow-Credentials"] = "true"
    allow["Access-Control-Expose-Headers"] = "X-Answer-Id, Retry-After"
    if request.method == "OPTIONS":
        allow["Access-Control-Allow-Methods"] = "GET, POST, PATCH, DELETE"
        allow["Access-Control-Allow-Headers"] = "Content-Type, Idempotency-Key, Last-Event-ID"
        allow["Access-Control-Max-Age"] = "600"
