"""The fast transport: a C parser on plain sockets, with keep-alive, proxies and cancellation.

What it does not do: HTTP/2, protocol upgrades, SOCKS, https through an https proxy, tracing.

**When a request is sent again.** A kept connection may be closed by the upstream in the moment
in which a request is written to it. RFC 9110 9.2.2 lets a client repeat a request by itself only
if its method is idempotent, or if it knows that the request was never applied. So, once, on a
fresh connection, and only before any byte of a response:

* GET, HEAD, OPTIONS, TRACE, PUT and DELETE are sent again;
* POST and PATCH only if no byte of them can have left. An upstream that took the request and died
  before it answered may have begun to write an answer, and an answer is billed. The caller gets the
  error and decides.

To make the case rare, a connection is looked at before it is used, it is idle no longer than common
servers keep theirs (5 s), and a server's own `Keep-Alive: timeout` is obeyed.
"""

import functools
import ssl

import httpx2

from .body import RawBody, Readable
from .cancellation import Cancellation, Cancelled, current_cancellation
from .exchange import Exchange, Timeouts
from .messages import request_body, request_head
from .pool import IdlePool, Slots
from .proxies import Proxies
from .routes import Route, Router
from .sockets import AttachedSocket
from .watchdog import Watchdog

WATCHED = 5.0
"""Seconds from which a read timeout is the watchdog's, which may strike two seconds late."""

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


class FastTransport(httpx2.BaseTransport):
    """HTTP/1.1 for `httpx2.Client(transport=...)`; every byte is handed on as it arrives.

    Thread-safe; also usable from greenlets where gevent has patched the standard library. May be
    made before a fork, and used after it. A read timeout of 5 s or more may strike in the body of a
    response up to 2 s late.

    :param ssl_context: trust for https; None means what `httpx2` trusts by default.
    :param proxies: None means those of the environment.
    :param max_connections: concurrent requests; more wait for the pool timeout. None: no limit.
    :param max_idle: connections kept for one origin.
    :param idle_seconds: for how long a connection is kept.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        proxies: Proxies | None = None,
        max_connections: int | None = None,
        max_idle: int = 50,
        idle_seconds: float = 4.0,
    ) -> None:
        self.router = Router(
            ssl_context or httpx2.create_ssl_context(), proxies or Proxies.from_environment()
        )
        self.pool = IdlePool(max_idle, idle_seconds)
        self.watchdog = Watchdog()
        self.slots = None if max_connections is None else Slots(max_connections)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request and wait for the head of the response.

        :raises Cancelled: the request's `current_cancellation` was cancelled.
        :raises httpx2.TransportError: the one that `httpx2.HTTPTransport` would raise.
        """
        cancellation = current_cancellation.get()
        if cancellation is not None and cancellation.cancelled:
            raise Cancelled
        timeouts = Timeouts(request.extensions)
        route = self.router.route(request)
        head = request_head(request.method.encode("ascii"), route.target, route.headers)
        if self.slots is None:
            return self.send(request, route, head, timeouts, cancellation)
        self.slots.take(timeouts.pool, cancellation)
        try:
            return self.send(request, route, head, timeouts, cancellation)
        except BaseException:
            self.slots.give()
            raise

    def send(
        self,
        request: httpx2.Request,
        route: Route,
        head: bytes,
        timeouts: Timeouts,
        cancellation: Cancellation | None,
    ) -> httpx2.Response:
        idle = self.pool.take(route.key)
        if idle is not None:
            exchange = self.exchange(AttachedSocket(idle, cancellation), request, route)
            try:
                return self.respond(exchange, request, head, timeouts)
            except (httpx2.NetworkError, httpx2.RemoteProtocolError):
                if not repeatable(request, exchange):
                    raise
        fresh = self.router.connect(route, timeouts, cancellation)
        return self.respond(self.exchange(fresh, request, route), request, head, timeouts)

    def exchange(self, attached: AttachedSocket, request: httpx2.Request, route: Route) -> Exchange:
        return Exchange(attached, request.method, functools.partial(self.pool.give, route.key))

    def respond(
        self, exchange: Exchange, request: httpx2.Request, head: bytes, timeouts: Timeouts
    ) -> httpx2.Response:
        try:
            exchange.send(head, request_body(request), timeouts.write)
            first = exchange.read_head(timeouts.read)
        except BaseException:
            exchange.close()
            raise
        if self.slots is not None:
            exchange.done = self.slots.give
        parser = exchange.parser
        # A stream may last for long, and not each of thousands needs these for as long.
        headers, parser.headers = parser.headers, []
        exchange.lifetime = kept_for(headers)
        if timeouts.read is not None and timeouts.read >= WATCHED and not parser.complete:
            exchange.watch(self.watchdog, timeouts.read)
        body = FastBody(exchange, first)
        return httpx2.Response(
            status_code=parser.status,
            headers=headers,
            stream=body,
            extensions={
                "http_version": f"HTTP/{parser.version}".encode("ascii"),
                "reason_phrase": parser.reason,
                "raw_body": body,
            },
        )

    def close(self) -> None:
        """Close the idle connections. Open responses go on."""
        self.pool.close()


class FastBody(RawBody):
    """Each read from the network is one piece."""

    def __init__(self, exchange: Exchange, first: bytes) -> None:
        self.exchange: Exchange | None = exchange
        self.first = first

    def read(self) -> bytes:
        first = self.first
        if first:
            self.first = b""
            return first
        exchange = self.exchange
        if exchange is None:
            return b""
        parser = exchange.parser
        try:
            while not parser.complete:
                data = exchange.receive()
                if data:
                    return data
        except BaseException:
            self.close()
            raise
        self.exchange = None
        exchange.finish()
        return b""

    def watchable(self) -> Readable | None:
        if self.exchange is None:
            return None
        first, self.first = self.first, b""
        return self.exchange.watchable(first)

    def drain(self, seconds: float) -> bool:
        exchange = self.exchange
        if exchange is None:
            return True
        self.first = b""
        try:
            exchange.skip_body(seconds)
        except httpx2.TransportError:
            self.close()
            return False
        self.exchange = None
        exchange.finish()
        return True

    def shut_down(self) -> None:
        if exchange := self.exchange:
            exchange.attached.shutdown()

    def close(self) -> None:
        """End the response. A connection that wasn't read to its end is closed."""
        self.first = b""
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        if exchange.parser.complete:
            exchange.finish()
        else:
            exchange.close()


def repeatable(request: httpx2.Request, exchange: Exchange) -> bool:
    """Whether a request that failed on a kept connection may be sent again."""
    if exchange.received or not isinstance(request.stream, httpx2.ByteStream):
        return False
    return request.method in IDEMPOTENT or not exchange.sent


def kept_for(headers: list[tuple[bytes, bytes]]) -> float | None:
    """Seconds for which the server keeps the connection, less one for the way, if it says so."""
    for name, value in headers:
        if name.lower() == b"keep-alive":
            for parameter in value.split(b","):
                key, _, number = parameter.strip().partition(b"=")
                if key.lower() == b"timeout" and number.isdigit():
                    return max(0.0, float(number) - 1.0)
    return None
