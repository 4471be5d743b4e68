"""Who is asking, and from where."""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from flask import Blueprint, Flask, Response, current_app, g, request, url_for

from ..errors import ConfigError, DuplicateCookie, NotSignedIn
from ..identity import owners
from ..identity.payers import Payer, is_public, network_of
from ..identity.tickets import Tickets
from ..identity.visitor_cookie import COOKIE_MAX_AGE, Visitors, cookie_name, count_of
from ..runtime.concurrency import cooperative
from ..runtime.stall_watch import StallWatch
from ..settings import Settings
from .headers import protect
from .sites import SAFE_METHODS, allow_origin, came_by_proxy, refuse_other_names, refuse_other_sites

logger = logging.getLogger(__name__)


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
        if "X-Forwarded-For" in request.headers and not came_by_proxy():
            warn_of_proxy()
        g.chatapp_identity = identity
        # A request that the application makes inside another one has its own owner.
        g.pop("chatapp_owner", None)
        refuse_other_names(settings)
        if request.method == "OPTIONS":
            return Response(status=204)
        if not has_ticket():
            refuse_other_sites(settings)
        return None

    @blueprint.after_request
    def finish(response: Response) -> Response:
        if cookie := g.pop("chatapp_cookie", None):
            path = url_for(".page")
            response.set_cookie(
                cookie_name(identity.chat, path, secure=request.is_secure),
                cookie,
                max_age=COOKIE_MAX_AGE,
                path=path,
                secure=request.is_secure,
                httponly=True,
                samesite="Lax",
            )
        if settings.cors_origins:
            allow_origin(response, settings.cors_origins)
        return protect(response)


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
    return _named_by_ticket(answer_id) or current_owner()


def has_ticket() -> bool:
    """Whether a ticket lets any page read what is asked for."""
    if (request.endpoint or "").endswith(".follow_answer") and request.method in SAFE_METHODS:
        return _named_by_ticket((request.view_args or {})["answer_id"]) is not None
    return False


def _named_by_ticket(answer_id: str) -> str | None:
    identity: Identity = g.chatapp_identity
    given = request.args.get("ticket")
    return identity.tickets().read(given, answer_id) if given else None


def visitor_address(owner: str) -> str | None:
    """What a visitor's streams are counted by beside the owner; None: nothing.

    An address of a private network may be a proxy's, and so everybody's.
    """
    network = network_of(request.remote_addr)
    return network if owners.is_visitor(owner) and is_public(network) else None


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
    known = visitors.read(_cookie(identity.chat))
    if known is not None:
        return owners.visitor(identity.chat, known)
    made, cookie = visitors.new()
    owner = owners.visitor(identity.chat, made)
    identity.admit_visitor(_visitor(owner, is_new=True))
    g.chatapp_cookie = cookie
    return owner


def _cookie(chat: str) -> str:
    """The visitor's cookie, or "".

    :raises DuplicateCookie: another site of the domain, or a page at a deeper path, has set a
        second one, and nothing tells which of them is ours.
    """
    name = cookie_name(chat, url_for(".page"), secure=request.is_secure)
    if count_of(name, request.headers.get("Cookie", "")) > 1:
        raise DuplicateCookie(
            "Your browser sent two cookies for this chat, and one may be somebody else's. Delete "
            "this site's cookies, and reload."
        )
    return request.cookies.get(name, "")


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
