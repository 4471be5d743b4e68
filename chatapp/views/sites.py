"""By which names this server may be asked, and which sites' pages may ask it.

Both are told by headers that a page can't set: a browser sends `Host`, `Origin` and
`Sec-Fetch-Site` by itself. Other clients may send what they like; they have no cookie to abuse.
"""

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from flask import Response, request

from ..errors import CrossSite, WrongHost
from ..settings import Settings

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN_TO_ALL: Final = frozenset({"page", "static", "healthz", "readyz", "metrics"})
"""Routes to which a link of another site may lead. Nothing there is a visitor's."""
OWN: Final = frozenset({"same-origin", "none"})
"""[fetch metadata] Our own page, and what the visitor has typed."""
LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/?#@\[\]]+)(?::[0-9]*)?", re.ASCII)


def refuse_other_names(settings: Settings) -> None:
    """Refuse a page whose name its owner has pointed here to read with it (DNS rebinding).

    A browser on this machine comes from a loopback address, as does a proxy; so a proxy has to be
    declared as trusted. A client that names no host is no browser.

    :raises WrongHost:
    """
    given = request.environ.get("HTTP_HOST")
    name = None if given is None else _name_of(given)
    if given is None or name in LOCAL_NAMES or name in settings.hosts:
        return
    if _is_loopback(request.remote_addr) and not came_by_proxy():
        raise WrongHost(
            "This server does not go by that name. On its own machine, open it as "
            "http://localhost or http://127.0.0.1. Its operator can list the name in "
            "CHATAPP_HOSTS or, if a proxy passes requests on, set CHATAPP_TRUSTED_PROXIES."
        )
    if settings.hosts and not (name and _is_address(name)):
        raise WrongHost(
            "This server does not go by that name. Its operator can list the name in CHATAPP_HOSTS."
        )


def came_by_proxy() -> bool:
    """Whether a trusted proxy has passed the request on."""
    return "werkzeug.proxy_fix.orig" in request.environ  # `ProxyFix` leaves it.


def is_local() -> bool:
    """Whether this server is named as one on the visitor's own machine."""
    return _name_of(request.host) in LOCAL_NAMES


def comes_from_elsewhere(settings: Settings) -> bool:
    """Whether the request is made for a page of another site that is not listed."""
    origin = request.headers.get("Origin")
    if origin in settings.cors_origins:
        return False
    site = request.headers.get("Sec-Fetch-Site")
    if site is None:
        # Browsers older than this header send at least the origin.
        return bool(origin) and _host_of(str(origin)) != request.host
    return site not in OWN


def refuse_other_sites(settings: Settings) -> None:
    """Refuse what other sites' pages ask, but for links to the page.

    :raises CrossSite:
    """
    if comes_from_elsewhere(settings) and not (
        request.method in SAFE_METHODS and _endpoint() in OPEN_TO_ALL
    ):
        raise CrossSite("This request comes from another site, which is not allowed.")


def allow_origin(response: Response, origins: tuple[str, ...]) -> None:
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


def _endpoint() -> str:
    """The route's name within the chat."""
    return (request.endpoint or "").rpartition(".")[2]


def _name_of(host: str) -> str | None:
    """The name in a `Host` header, without the port; None where it is malformed."""
    found = _HOST.fullmatch(host.lower())
    return found[1] if found else None


def _is_address(name: str) -> bool:
    """Whether it is an IP address, to which nobody can point a name of their own."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _is_loopback(address: str | None) -> bool:
    """Whether a client is on this machine. Over a Unix socket it has no address."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def _host_of(origin: str) -> str | None:
    """The host and port of an origin; None where it is malformed."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None
