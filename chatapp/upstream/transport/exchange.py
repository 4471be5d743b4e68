"""One request and its response on one connection."""

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import httpx2

from .cancellation import Cancelled
from .messages import ResponseParser
from .sockets import AttachedSocket
from .watchdog import Watchdog, Watched

READ_SIZE = 65536
"""Bytes to request per read; they are allocated only during the call."""

JOINED = 65536
"""Bytes up to which head and body are sent together: a copy costs less than a second packet."""


class Exchange:
    """Owns the connection from the first byte of a request to the end of the response.

    :param attached: a connected socket with nothing to read.
    :param keep: gets the socket after a response that leaves it fit for another request, and owns
        it from then on; also `lifetime`. None: the connection is closed.
    """

    __slots__ = (
        "attached",
        "descriptor",
        "done",
        "early",
        "failure",
        "keep",
        "lifetime",
        "parser",
        "pending",
        "read",
        "received",
        "sent",
        "tls",
        "watchdog",
        "watched",
        "write_failed",
    )

    def __init__(
        self,
        attached: AttachedSocket,
        method: str,
        keep: Callable[[socket.socket, float | None], None] | None = None,
    ) -> None:
        self.attached = attached
        self.parser = ResponseParser(method)
        self.keep = keep
        self.lifetime: float | None = None
        """Seconds for which the upstream promised to keep the connection, if it did."""
        self.read: Callable[[int], bytes]
        """Of the socket, without waiting; there after `watchable`."""
        self.done: Callable[[], None] | None = None
        """Called once when the exchange is over, however it ended."""
        self.sent = False
        """Whether any byte may have left for the upstream."""
        self.received = False
        """Whether any byte has come from the upstream."""
        self.write_failed = False
        self.watchdog: Watchdog | None = None
        self.watched: Watched | None = None
        self.failure: Exception | None = None
        self.descriptor = -1
        self.pending = False
        """As `Readable` has it."""
        self.early = b""
        """Of the body, received with the head and not handed on yet."""
        self.tls = False

    def send(self, head: bytes, body: Iterable[bytes], timeout: float | None) -> None:
        """Send a whole request.

        A connection that breaks meanwhile isn't an error yet: an upstream may refuse a request
        before it has read all of it, and close. What it said can still be read.

        :param timeout: seconds for each wait.
        """
        pending = head
        try:
            self.attached.sock.settimeout(timeout)
            for piece in body:
                if len(pending) + len(piece) <= JOINED:
                    pending += piece
                else:
                    self.send_all(pending)
                    pending = piece
            self.send_all(pending)
        except TimeoutError as error:
            raise self.fault(httpx2.WriteTimeout("The upstream took no bytes.")) from error
        except OSError as error:
            if self.attached.cancelled:
                raise Cancelled from error
            self.write_failed = True

    def send_all(self, data: bytes) -> None:
        sock = self.attached.sock
        if not self.sent:
            # That the very first write to a plain socket fails proves that nothing has left. A
            # TLS write may fail after its first record has left.
            self.sent = isinstance(sock, ssl.SSLSocket)
            count = sock.send(data)
            self.sent = True
            if count == len(data):
                return
            data = data[count:]
        sock.sendall(data)

    def read_head(self, timeout: float | None) -> bytes:
        """Wait for the head of the final response.

        :param timeout: seconds for all of it, then for each wait of the body.
        :return: what came of the body with it.
        """
        # Rarely more than once: changing it is a system call where nothing is patched.
        self.attached.sock.settimeout(timeout)
        begun, shortened = time.monotonic(), False
        while True:
            body = self.receive()
            if self.parser.head_complete:
                break
            if timeout is not None:
                left = begun + timeout - time.monotonic()
                if left <= 0:
                    raise silent()
                self.attached.sock.settimeout(left)
                shortened = True
        if shortened:
            self.attached.sock.settimeout(timeout)
        return body

    def watch(self, watchdog: Watchdog, timeout: float) -> None:
        """From now on the watchdog bounds each wait, not the socket."""
        self.attached.sock.settimeout(None)
        self.watchdog = watchdog
        self.watched = watchdog.watch(self.attached, timeout)

    def receive(self) -> bytes:
        """The next bytes of the body; may be empty. Not to be called after the end."""
        if self.failure is not None:
            raise self.failure
        watched = self.watched
        try:
            if watched is None:
                data = self.attached.sock.recv(READ_SIZE)
            else:
                watched.turn += 1
                data = self.attached.sock.recv(READ_SIZE)
                watched.turn += 1
        except TimeoutError as error:
            raise self.fault(silent()) from error
        except OSError as error:
            raise self.fault(httpx2.ReadError(str(error))) from error
        return self.accept(data)

    def watchable(self, early: bytes) -> "Exchange":
        """From now on nothing waits; a `Readable`.

        :param early: what has been received of the body.
        """
        self.unwatch()
        sock = self.attached.sock
        sock.settimeout(0)
        self.descriptor = sock.fileno()
        # Of gevent's sockets, the one below: what theirs do beyond the system call is to wait.
        self.tls = isinstance(sock, ssl.SSLSocket)
        self.read = sock.recv if self.tls else getattr(sock, "_sock", sock).recv
        self.early = early
        self.note_pending()
        return self

    def receive_now(self) -> bytes | None:
        if self.pending:
            if self.early:
                early, self.early = self.early, b""
                self.note_pending()
                return early
            if self.failure is not None:
                raise self.failure
            if self.parser.complete:
                return b""
        try:
            data = self.accept(self.read(READ_SIZE))
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self.pending = False
            return None
        except OSError as error:
            raise self.fault(httpx2.ReadError(str(error))) from error
        complete = self.parser.complete
        if complete or self.tls or self.failure is not None:
            self.note_pending()
        if data or complete:
            return data
        if self.failure is not None:
            raise self.failure
        return None  # Bytes of the framing alone.

    def note_pending(self) -> None:
        """What watching the descriptor would not tell: our own bytes, an end, those of TLS."""
        ended = self.parser.complete or self.failure is not None
        sock = self.attached.sock
        decrypted = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        self.pending = ended or decrypted or bool(self.early)

    def accept(self, data: bytes) -> bytes:
        """Bytes of the connection in, bytes of the body out; `b""` in: the connection has ended."""
        parser = self.parser
        if not data:
            if self.attached.cancelled:
                raise Cancelled
            if self.watched is not None and self.watched.expired:
                raise silent()
            parser.end()
            return b""
        self.received = True
        try:
            return parser.feed(data)
        except httpx2.RemoteProtocolError as error:
            if not parser.head_complete:
                raise
            # What came before the error is the caller's; the error is for the next read.
            self.failure = error
            return parser.take_body()

    def fault(self, error: httpx2.TransportError) -> httpx2.TransportError:
        if self.attached.cancelled:
            return Cancelled()
        watched = self.watched
        return silent() if watched is not None and watched.expired else error

    def skip_body(self, seconds: float) -> None:
        """Read to the end of the response.

        :raises httpx2.TransportError: it didn't end in time, or the connection broke.
        """
        deadline = time.monotonic() + seconds
        while not self.parser.complete:
            left = deadline - time.monotonic()
            if left <= 0:
                raise httpx2.ReadTimeout("The response didn't end in time.")
            self.attached.sock.settimeout(left)
            self.receive()

    def finish(self) -> None:
        """The response was read to its end: keep the connection if it may be used again."""
        keep, self.keep = self.keep, None
        self.unwatch()
        attached, cancellation = self.attached, self.attached.cancellation
        if cancellation is not None:
            cancellation.detach()
        if keep is None or not self.parser.keep_alive or self.write_failed or attached.cancelled:
            self.close()
            return
        keep(attached.sock, self.lifetime)
        self.over()

    def close(self) -> None:
        """Close the connection. May be called again."""
        self.unwatch()
        self.attached.close()
        self.over()

    def unwatch(self) -> None:
        watchdog, self.watchdog = self.watchdog, None
        if watchdog is not None and self.watched is not None:
            watchdog.forget(self.watched)

    def over(self) -> None:
        self.parser.release()
        done, self.done = self.done, None
        if done is not None:
            done()


def silent() -> httpx2.ReadTimeout:
    return httpx2.ReadTimeout("The upstream fell silent.")


class Timeouts:
    """Seconds for the phases of a request, as httpx2 passes them; None waits for ever."""

    __slots__ = ("connect", "pool", "read", "write")

    def __init__(self, extensions: Mapping[str, Any]) -> None:
        timeout: Mapping[str, float | None] = extensions.get("timeout", {})
        self.connect = timeout.get("connect")
        self.read = timeout.get("read")
        self.write = timeout.get("write")
        self.pool = timeout.get("pool")
