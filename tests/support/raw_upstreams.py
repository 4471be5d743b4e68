"""Upstreams that do exactly what a test says, byte for byte, on real sockets."""

import contextlib
import functools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import trustme

WAIT = 20.0
"""Seconds after which something that should have happened counts as not happening."""


@functools.cache
def authority() -> trustme.CA:
    return trustme.CA()


@functools.cache
def client_context() -> ssl.SSLContext:
    """Trusts the certificates of the servers here, and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    return context


def server_context(*names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    authority().issue_cert(*names).configure_cert(context)
    return context


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""

    def read_request(self) -> bytes:
        """One whole request, head and body; `b""` when the client has closed."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.fill():
                return b""
        head, _, rest = self.buffer.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" in head.lower():
            while not rest.endswith(b"0\r\n\r\n"):
                self.fill()
                rest = self.buffer[len(head) + 4 :]
            size = len(rest)
        else:
            size = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    size = int(line.split(b":")[1])
        whole = len(head) + 4 + size
        while len(self.buffer) < whole:
            self.fill()
        request, self.buffer = self.buffer[:whole], self.buffer[whole:]
        return request

    def fill(self) -> bool:
        data = self.sock.recv(65536)
        self.buffer += data
        return bool(data)

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.sock.sendall(part)

    def wait_until_closed(self) -> None:
        """Return when the client's end of the connection is gone."""
        with contextlib.suppress(OSError):
            while self.sock.recv(65536):
                pass

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sock.close()


class Server:
    """Runs `handle(peer)` in a thread for each connection; notes what it raised."""

    def __init__(
        self,
        handle: Callable[[Peer], Any],
        tls: ssl.SSLContext | None = None,
        *,
        plain: bool = False,
    ) -> None:
        self.handle = handle
        self.tls = tls
        self.scheme = "https" if tls or plain else "http"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.accepted = 0
        self.peers: list[socket.socket] = []
        self.threads: list[threading.Thread] = []
        self.failures: list[BaseException] = []
        self.acceptor = threading.Thread(target=self.accept, daemon=True)
        self.acceptor.start()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            thread = threading.Thread(target=self.serve, args=(sock,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def serve(self, sock: socket.socket) -> None:
        sock.settimeout(WAIT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True)
            self.peers.append(sock)
            self.handle(Peer(sock))
        except (OSError, ssl.SSLError):
            pass
        except BaseException as error:
            self.failures.append(error)
        finally:
            sock.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.acceptor.join(WAIT)
        for sock in self.peers:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(WAIT)
        if self.failures:
            raise self.failures[0]


@contextlib.contextmanager
def serving(
    handle: Callable[[Peer], Any], tls: ssl.SSLContext | None = None, *, plain: bool = False
) -> Iterator[Server]:
    """A server for the length of the block. `plain` claims https in its URL but speaks no TLS."""
    server = Server(handle, tls, plain=plain)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """The port of a listener that answers no further SYN: connecting to it hangs."""
    listener = socket.socket()
    waiting: list[socket.socket] = []
    try:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        while True:
            sock = socket.socket()
            waiting.append(sock)
            sock.settimeout(0.3)
            try:
                sock.connect(listener.getsockname())
            except TimeoutError:
                break
        yield listener.getsockname()[1]
    finally:
        for sock in waiting:
            sock.close()
        listener.close()


class Outcome:
    """Runs something in a thread and keeps what it returned or raised."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self.run = run
        self.value: Any = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        try:
            self.value = self.run()
        except BaseException as error:
            self.error = error

    def result(self) -> Any:
        """What it returned; raises what it raised, or `TimeoutError` when it never ends."""
        self.thread.join(WAIT)
        if self.thread.is_alive():
            raise TimeoutError("still running")
        if self.error is not None:
            raise self.error
        return self.value


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
