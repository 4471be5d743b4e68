"""From a request to a connected socket: directly, through a proxy, or through a tunnel."""

import base64
import ssl
from collections.abc import Hashable
from dataclasses import dataclass

import httpx2

from .cancellation import Cancellation, Cancelled
from .exchange import Exchange, Timeouts
from .messages import request_head
from .proxies import Proxies
from .sockets import AttachedSocket, open_socket, start_tls

Headers = list[tuple[bytes, bytes]]
PORTS = {"http": 80, "https": 443}


@dataclass(slots=True, frozen=True)
class Route:
    """Where a request goes, and how its target and its headers look on that way."""

    key: Hashable
    """Equal for requests that may share a connection."""
    host: str
    port: int
    tls_name: str | None
    """The name that the upstream's certificate must have; None for http."""
    proxy: httpx2.Proxy | None
    target: bytes
    headers: Headers


class Router:
    """Finds routes and connects them.

    :param ssl_context: one for all connections; the protocol it offers (ALPN) becomes HTTP/1.1.
    """

    def __init__(self, ssl_context: ssl.SSLContext, proxies: Proxies) -> None:
        ssl_context.set_alpn_protocols(["http/1.1"])
        self.ssl_context = ssl_context
        self.proxies = proxies

    def route(self, request: httpx2.Request) -> Route:
        """The way of a request.

        :raises httpx2.UnsupportedProtocol: the URL or its proxy isn't spoken here.
        """
        url = request.url
        if url.scheme not in PORTS or not url.raw_host:
            raise httpx2.UnsupportedProtocol(
                f"The URL {str(url)!r} must begin with http:// or https:// and a host."
            )
        host, port = url.raw_host.decode("ascii"), url.port or PORTS[url.scheme]
        proxy = self.proxies.proxy_for(url)
        target: bytes = request.extensions.get("target", url.raw_path)
        headers = request.headers.raw
        tls_name = None
        if url.scheme == "https":
            tls_name = request.extensions.get("sni_hostname") or host
        elif proxy is not None:
            # The absolute form: RFC 9112 3.2.2.
            target = b"http://" + url.netloc + target
            headers = [*proxy_headers(proxy), *headers]
        key = (host, port, tls_name, proxy and (proxy.url, proxy.auth))
        return Route(key, host, port, tls_name, proxy, target, headers)

    def connect(
        self, route: Route, timeouts: Timeouts, cancellation: Cancellation | None
    ) -> AttachedSocket:
        """Open a connection on which the request can be sent.

        :raises Cancelled: the request was cancelled.
        :raises httpx2.ConnectTimeout: an address, a handshake or a proxy didn't answer in time.
        :raises httpx2.ConnectError: the name is unknown, nobody listens, TLS failed.
        :raises httpx2.ProxyError: the proxy refused the tunnel.
        """
        try:
            return self.open(route, timeouts.connect, cancellation)
        except (OSError, httpx2.TimeoutException) as error:
            if cancellation is not None and cancellation.cancelled:
                raise Cancelled from error
            if isinstance(error, (TimeoutError, httpx2.TimeoutException)):
                raise httpx2.ConnectTimeout(str(error)) from error
            raise httpx2.ConnectError(str(error)) from error

    def open(
        self, route: Route, timeout: float | None, cancellation: Cancellation | None
    ) -> AttachedSocket:
        proxy = route.proxy
        if proxy is None:
            attached = open_socket(route.host, route.port, timeout, cancellation)
        else:
            host = proxy.url.raw_host.decode("ascii")
            port = proxy.url.port or PORTS[proxy.url.scheme]
            attached = open_socket(host, port, timeout, cancellation)
            if proxy.url.scheme == "https":
                context = proxy.ssl_context or self.ssl_context
                attached = start_tls(attached, context, host, timeout)
            if route.tls_name is not None:
                open_tunnel(attached, route, proxy, timeout)
        if route.tls_name is not None:
            attached = start_tls(attached, self.ssl_context, route.tls_name, timeout)
        return attached


def open_tunnel(
    attached: AttachedSocket, route: Route, proxy: httpx2.Proxy, timeout: float | None
) -> None:
    """Have the proxy connect us to the upstream (CONNECT: RFC 9110 9.3.6)."""
    host = f"[{route.host}]" if ":" in route.host else route.host
    authority = f"{host}:{route.port}".encode("ascii")
    headers = [(b"Host", authority), (b"Accept", b"*/*"), *proxy_headers(proxy)]
    exchange = Exchange(attached, "CONNECT")
    try:
        exchange.send(request_head(b"CONNECT", authority, headers), (), timeout)
        exchange.read_head(timeout)
        parser = exchange.parser
        if parser.status >= 300:
            reason = parser.reason.decode("ascii", "ignore")
            raise httpx2.ProxyError(f"The proxy refused the tunnel: {parser.status} {reason}")
    except BaseException:
        exchange.close()
        raise
    exchange.over()


def proxy_headers(proxy: httpx2.Proxy) -> Headers:
    headers = proxy.headers.raw
    if proxy.raw_auth is None:
        return headers
    credentials = base64.b64encode(b":".join(proxy.raw_auth))
    return [(b"Proxy-Authorization", b"Basic " + credentials), *headers]
