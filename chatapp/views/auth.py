"""Who is asking, and from where."""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

from flask import Blueprint, Flask, Response, current_app, g, request, url_for

from ..errors import ConfigError, CrossSite, NotSignedIn
from ..identity import owners
from ..identity.payers import Payer, is_public, network_of
from ..identity.tickets import Tickets
from ..identity.visitor_cookie import COOKIE, COOKIE_MAX_AGE, Visitors
from ..runtime.concurrency import cooperative
from ..runtime.stall_watch import StallWatch
from ..settings import Settings

logger = logging.getLogger(__name__)

PROXY_FIX = "werkzeug.proxy_fix.orig"
"""What `ProxyFix` leaves in the environment of each request."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, kw_only=True)
class Identity:
    """How one chat knows its owners."""

    chat: str
    """The chat's name."""
    settings: Settings
    log_in: Callable[[], Callable[[], object] | None]
    """The application's function that returns who has signed in; None: there is none."""
    watch: StallWatch
    visitors: Callable[[], Visitors]
    admit_visitor: Callable[[Payer], None]
    """Called before a new visitor gets a cookie. Raises `RateLimited`."""
    tickets: Callable[[], Tickets]


def register(blueprint: Blueprint, identity: Identity) -> None:
    """Protect a blueprint's routes from other sites, and send new visitors their cookie."""
    settings = identity.settings
    warn = _Once(_warn_of_threads)
    warn_of_proxy = _Once(_warn_of_proxy)

    @blueprint.before_request
    def guard() -> Response | None:
        warn()
        if "X-Forwarded-For" in request.headers and PROXY_FIX not in request.environ:
            warn_of_proxy()
        g.chatapp_identity = identity
        # A request that the application makes inside another one has its own owner.
        g.pop("chatapp_owner", None)
        g.pop("chatapp_ticket", None)
        if request.method == "OPTIONS":
            return Response(status=204)
        if request.method not in SAFE_METHODS:
            _refuse_other_sites(settings)
        return None

    @blueprint.after_request
    def finish(response: Response) -> Response:
        if cookie := g.pop("chatapp_cookie", None):
            response.set_cookie(
                cookie_name(identity.chat),
                cookie,
                max_age=COOKIE_MAX_AGE,
                path=url_for(".page"),
                secure=request.is_secure,
                httponly=True,
                samesite="Lax",
            )
        if settings.cors_origins:
            _allow_origin(response, settings.cors_origins)
        return response


def current_owner() -> str:
    """The owner that this request acts for; a new one for a new visitor.

    :raises NotSignedIn: the application's log-in names nobody.
    :raises RateLimited: too many new visitors come from the same address.
    """
    if "chatapp_owner" not in g:
        g.chatapp_owner = _owner(g.chatapp_identity)
    return str(g.chatapp_owner)


def payer() -> Payer:
    """Whom this request is charged to.

    :raises ChatAppError: as `current_owner`.
    """
    owner = current_owner()
    return _visitor(owner, "chatapp_cookie" in g) if owners.is_visitor(owner) else Payer(owner)


def _visitor(owner: str, is_new: bool) -> Payer:
    # `ProxyFix` has put what a trusted proxy says in the place of the proxy's own address.
    return Payer(owner, network_of(request.remote_addr), is_new)


def ticket(answer_id: str) -> str | None:
    """A ticket for reading an answer from another origin, which sends no cookie; else None."""
    identity: Identity = g.chatapp_identity
    if request.headers.get("Origin") not in identity.settings.cors_origins:
        return None
    return identity.tickets().issue(answer_id, current_owner())


def reader_of(answer_id: str) -> str:
    """The owner who may read an answer's events: by a valid ticket, or as `current_owner`."""
    identity: Identity = g.chatapp_identity
    given = request.args.get("ticket")
    if owner := given and identity.tickets().read(given, answer_id):
        g.chatapp_ticket = True
        return owner
    return current_owner()


def has_ticket() -> bool:
    """Whether `reader_of` has found one."""
    return "chatapp_ticket" in g


def visitor_address(owner: str) -> str | None:
    """What a visitor's streams are counted by beside the owner; None: nothing.

    An address of a private network may be a proxy's, and so everybody's.
    """
    network = network_of(request.remote_addr)
    return network if owners.is_visitor(owner) and is_public(network) else None


def cookie_name(chat: str) -> str:
    """Each chat has its own cookie."""
    return COOKIE if chat == "chatapp" else f"{COOKIE}_{chat}"


def _owner(identity: Identity) -> str:
    log_in = identity.log_in() or _flask_login(current_app)
    if log_in is not None:
        user = identity.watch.call(log_in)
        if user is not None:
            return owners.user(identity.chat, _user_id(user))
        if identity.log_in() is not None or identity.settings.login_required:
            raise NotSignedIn("Sign in to continue.")
    elif identity.settings.login_required:
        raise NotSignedIn("Sign in to continue.")
    visitors = identity.visitors()
    known = visitors.read(request.cookies.get(cookie_name(identity.chat), ""))
    if known is not None:
        return owners.visitor(identity.chat, known)
    made, cookie = visitors.new()
    owner = owners.visitor(identity.chat, made)
    identity.admit_visitor(_visitor(owner, is_new=True))
    g.chatapp_cookie = cookie
    return owner


def _user_id(user: object) -> str:
    """:raises ConfigError: what the log-in returned can't be an owner's id."""
    # Not any object: its text may differ between requests. And False is no user.
    if isinstance(user, bool) or not isinstance(user, str | int | UUID):
        raise ConfigError(
            f"The log-in returned a {type(user).__name__}. Return the user's id (a string or a "
            "number), or None if nobody has signed in."
        )
    name = str(user)
    if not 0 < len(name) <= owners.MAX_ID_CHARS or not _kept_as_it_is(name):
        raise ConfigError(
            "The log-in returned an invalid id. An id has 1 to "
            f"{owners.MAX_ID_CHARS} characters, no NUL or unpaired surrogate, and does not start "
            f"with {owners.VISITOR!r}."
        )
    return name


def _kept_as_it_is(name: str) -> bool:
    """Whether databases can store this id, and no hook mistakes it for a visitor's."""
    half = any("\ud800" <= character <= "\udfff" for character in name)
    return not (half or "\0" in name or name.startswith(owners.VISITOR))


def _flask_login(app: Flask) -> Callable[[], object] | None:
    """Flask-Login's current user, if the application uses it."""
    module = sys.modules.get("flask_login")
    if module is None or not hasattr(app, "login_manager"):
        return None

    def signed_in() -> object:
        user = module.current_user
        return user.get_id() if user and user.is_authenticated else None

    return signed_in


class _Once:
    """Calls a function the first time."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function: Callable[[], None] | None = function

    def __call__(self) -> None:
        if self._function is not None:
            function, self._function = self._function, None
            function()


def _warn_of_threads() -> None:
    if not cooperative():
        logger.warning(
            "This server uses one thread per open stream, so it can serve only as many readers "
            "as it has threads. For more, run it with: gunicorn -k gevent"
        )


def _warn_of_proxy() -> None:
    logger.warning(
        "A request has X-Forwarded-For, and no proxy is trusted: behind a proxy, all visitors "
        "would count as one address. Set CHATAPP_TRUSTED_PROXIES, or use ProxyFix, if there is one."
    )


def _refuse_other_sites(settings: Settings) -> None:
    """Browsers say where a request comes from; other clients have no cookie to abuse.

    :raises CrossSite:
    """
    origin = request.headers.get("Origin")
    if origin in settings.cors_origins:
        return
    site = request.headers.get("Sec-Fetch-Site")
    # Browsers older than this header send at least the origin.
    elsewhere = site is None and origin and _host_of(origin) != request.host
    if site in ("cross-site", "same-site") or elsewhere:
        raise CrossSite("This request comes from another site, which is not allowed.")


def _host_of(origin: str) -> str | None:
    """The host and port of an origin; None where it is malformed."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _allow_origin(response: Response, origins: tuple[str, ...]) -> None:
    """[fetch] CORS; names one origin, never `*`, because the request carries the cookie."""
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
