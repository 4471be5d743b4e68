"""The reference transport: httpx2's own HTTP layer on sockets that can be cancelled.

That layer is `httpcore2` with `h11`. Here it keeps no connection for later requests, and it is
several times slower than `FastTransport`. It serves as a comparison and as a fallback.
"""

import contextlib
import ssl
import time
from collections.abc import Iterable, Iterator
from typing import Any

import httpcore2
import httpx2

from .body import RawBody
from .cancellation import Cancelled, current_cancellation
from .proxies import Proxies
from .sockets import AttachedSocket, open_socket, start_tls


class StockTransport(httpx2.BaseTransport):
    """Thread-safe; also usable from greenlets where gevent has patched the standard library.

    :param ssl_context: trust for https; None means what `httpx2` trusts by default.
    :param proxies: None means those of the environment.
    """

    def __init__(
        self, *, ssl_context: ssl.SSLContext | None = None, proxies: Proxies | None = None
    ) -> None:
        self.ssl_context = ssl_context or httpx2.create_ssl_context()
        self.proxies = proxies or Proxies.from_environment()
        self.pools = {
            proxy and (proxy.url, proxy.auth): self.make_pool(proxy)
            for proxy in (None, *self.proxies.proxies.values())
            if proxy is None or proxy.url.scheme in ("http", "https")
        }

    def make_pool(self, proxy: httpx2.Proxy | None) -> httpcore2.ConnectionPool:
        backend = CancellableBackend()
        if proxy is None:
            return httpcore2.ConnectionPool(
                ssl_context=self.ssl_context,
                max_connections=None,
                max_keepalive_connections=0,
                network_backend=backend,
            )
        url = proxy.url
        return httpcore2.HTTPProxy(
            proxy_url=core_url(url),
            proxy_auth=proxy.raw_auth,
            proxy_headers=proxy.headers.raw,
            ssl_context=self.ssl_context,
            proxy_ssl_context=self.ssl_context if url.scheme == "https" else None,
            max_connections=None,
            max_keepalive_connections=0,
            network_backend=backend,
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request and wait for the head of the response.

        :raises Cancelled: the request's `current_cancellation` was cancelled.
        :raises httpx2.TransportError: as `httpx2.HTTPTransport` does.
        """
        assert isinstance(request.stream, httpx2.SyncByteStream)  # noqa: S101 # for mypy
        proxy = self.proxies.proxy_for(request.url)
        with httpx2_errors():
            response = self.pools[proxy and (proxy.url, proxy.auth)].handle_request(
                httpcore2.Request(
                    method=request.method,
                    url=core_url(request.url),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        assert isinstance(response.stream, Iterable)  # noqa: S101 # for mypy
        network: CancellableStream = response.extensions["network_stream"]
        network.head_until = None
        body = StockBody(response.stream, network)
        return httpx2.Response(
            status_code=response.status,
            headers=response.headers,
            stream=body,
            extensions={**response.extensions, "raw_body": body},
        )

    def close(self) -> None:
        """Close the connections that are left."""
        for pool in self.pools.values():
            pool.close()


class StockBody(RawBody):
    """The body in the pieces in which it is decoded."""

    def __init__(self, stream: Iterable[bytes], network: "CancellableStream") -> None:
        self.stream = stream
        self.network = network
        self.pieces = iter(stream)

    def read(self) -> bytes:
        with httpx2_errors():
            return next((piece for piece in self.pieces if piece), b"")

    def shut_down(self) -> None:
        self.network.attached.shutdown()

    def drain(self, seconds: float) -> bool:  # noqa: ARG002 # no connection is kept anyway
        self.close()
        return False

    def close(self) -> None:
        if hasattr(self.stream, "close"):
            self.stream.close()


def core_url(url: httpx2.URL) -> httpcore2.URL:
    return httpcore2.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )


@contextlib.contextmanager
def httpx2_errors() -> Iterator[None]:
    """Raise `httpcore2`'s errors as `httpx2`'s, which have the same names."""
    try:
        yield
    except (
        httpcore2.TimeoutException,
        httpcore2.NetworkError,
        httpcore2.ProtocolError,
        httpcore2.ProxyError,
        httpcore2.UnsupportedProtocol,
    ) as error:
        raise getattr(httpx2, type(error).__name__)(str(error)) from error


class CancellableBackend(httpcore2.NetworkBackend):
    """Opens connections for the request whose cancellation is the current one."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        if local_address is not None or socket_options is not None:
            raise NotImplementedError("StockTransport sets neither an address nor options.")
        cancellation = current_cancellation.get()
        if cancellation is not None and cancellation.cancelled:
            raise Cancelled
        with renamed(httpcore2.ConnectTimeout, httpcore2.ConnectError):
            try:
                attached = open_socket(host, port, timeout, cancellation)
            except OSError as error:
                if cancellation is not None and cancellation.cancelled:
                    raise Cancelled from error
                raise
        return CancellableStream(attached)


class CancellableStream(httpcore2.NetworkStream):
    """A connection of one request, which ends with `Cancelled` once that request is cancelled."""

    def __init__(self, attached: AttachedSocket) -> None:
        self.attached = attached
        self.head_until: float | None = 0.0
        """Monotonic seconds up to which the response's head may take; 0: not begun; None: over."""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if timeout is not None and self.head_until is not None:
            now = time.monotonic()
            self.head_until = self.head_until or now + timeout
            timeout = self.head_until - now
            if timeout <= 0:
                raise httpcore2.ReadTimeout("The upstream fell silent.")
        with self.faults(httpcore2.ReadTimeout, httpcore2.ReadError):
            self.attached.sock.settimeout(timeout)
            data = self.attached.sock.recv(max_bytes)
        if not data and self.attached.cancelled:
            raise Cancelled
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:  # an empty write would take away the error that the next read should see
            return
        with self.faults(httpcore2.WriteTimeout, httpcore2.WriteError):
            self.attached.sock.settimeout(timeout)
            self.attached.sock.sendall(buffer)

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        with self.faults(httpcore2.ConnectTimeout, httpcore2.ConnectError):
            tls = start_tls(self.attached, ssl_context, server_hostname or "", timeout)
        return CancellableStream(tls)

    def close(self) -> None:
        self.attached.close()

    def get_extra_info(self, info: str) -> Any:
        sock = self.attached.sock
        if info == "socket":
            return sock
        if info == "server_addr":
            return sock.getpeername()
        if info == "client_addr":
            return sock.getsockname()
        return None

    @contextlib.contextmanager
    def faults(self, timeout: type[Exception], fault: type[Exception]) -> Iterator[None]:
        with renamed(timeout, fault):
            try:
                yield
            except OSError as error:
                if self.attached.cancelled:
                    raise Cancelled from error
                raise


@contextlib.contextmanager
def renamed(timeout: type[Exception], fault: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise timeout(str(error)) from error
    except OSError as error:
        raise fault(str(error)) from error
