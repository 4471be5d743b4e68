"""The client's connection: is it still there, does it take what we write, does it send its body?

A synchronous generator that waits for data sees nothing of its socket. Under gevent, a read watcher
reports immediately that the client has gone, and one sweep per worker disconnects readers that take
nothing. Elsewhere a vanished client is noticed when the next heartbeat is written.

**Direct writes.** What a response's generator yields passes through loops of Flask, the server and
any middleware, a greenlet switch away. For a piece of an answer that costs more than sending it. So
if the first block was seen to reach the socket unchanged, in HTTP/1.1 chunks (RFC 9112 7.1) or
bare, later ones may be sent by `try_send` in the same framing. If anything changes the bytes on
their way (TLS, HTTP/2, compression), or if we can't see the socket, the generator yields them all.
"""

import contextlib
import errno
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import gevent
import gevent.socket

from ..errors import BodyTimeout
from ..runtime.concurrency import cooperative

SWEEPS_PER_LIMIT: Final = 4
MAX_WRITE_BYTES: Final = 65_536
"""Bytes of one write: a slow client that takes so much in the send time-out is not stalled."""
CHUNK: Final = b"%X\r\n%b\r\n"
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of 0: the kernel drops what the reader did not take."""


class _Uncounted:
    """Stands in for a server's response that counts nothing."""

    sent = 0


_UNCOUNTED: Final = _Uncounted()


class Connection:
    """The connection that one streamed response is written to.

    Made by the greenlet that writes it.

    :param on_gone: called once, when the client has closed it; may run in gevent's hub, so it must
        neither wait nor raise.
    :param may_be_direct: whether `try_send` is wanted where it is possible.
    """

    __slots__ = (
        "_chunked",
        "_decided",
        "_on_gone",
        "_rest",
        "_send",
        "_sock",
        "_stalls",
        "_watcher",
        "_writer",
        "direct",
        "gone",
        "response",
        "writing_since",
    )

    def __init__(
        self,
        sock: Any,
        on_gone: Callable[[], None],
        stalls: "SlowClientGuard",
        *,
        may_be_direct: bool = True,
    ) -> None:
        self.gone = False
        self.writing_since = 0.0
        """Monotonic seconds at which the server got bytes that were not taken yet; or 0."""
        self.direct = False
        """Whether `try_send` may be used."""
        self.response: Any = _UNCOUNTED
        """gunicorn's, which counts the body's bytes in `sent` for the access log."""
        self._chunked = False
        self._decided = not (may_be_direct and isinstance(sock, FastSendSocket) and cooperative())
        self._rest = b""
        self._sock = sock
        self._send: Callable[[bytes], int] | None = None
        self._on_gone = on_gone
        self._stalls = stalls
        self._writer: Any = None
        self._watcher: Any = None
        if sock is not None and cooperative():
            self._writer = gevent.getcurrent()
            self._watcher = gevent.get_hub().loop.io(sock.fileno(), 1)
            self._watcher.start(self._readable)
            stalls.watch(self)

    def close(self) -> None:
        """Stop watching. Must be called however the response ends, also before it began."""
        self._stalls.forget(self)
        self._stop()

    def begin_write(self, block: bytes) -> None:
        """The server is about to get these bytes."""
        self.writing_since = time.monotonic()
        if not self._decided:
            self._sock.expect(block)

    def end_write(self) -> None:
        """The client has taken what the server got."""
        self.writing_since = 0.0
        if not self._decided:
            self._decided = True
            seen = self._sock.seen_as()
            self._chunked, self.direct = seen == "chunked", seen != ""
            self._send = self._sock.send_now

    def try_send(self, data: bytes) -> bool:
        """Write to the socket what the server would, without waiting; whether all has left."""
        assert self._send  # noqa: S101 # for mypy: `direct` promises it
        try:
            frame = CHUNK % (len(data), data) if self._chunked else data
            sent = self._send(frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.gone = True
            return False
        except BaseException:
            self.gone = True  # It lacks these bytes now: let it come back with its cursor.
            raise
        self.response.sent += len(data)
        if sent == len(frame):
            return True
        self._rest = frame[sent:]
        return False

    def flush(self) -> None:
        """Write what `try_send` has left.

        :raises OSError: the client has gone.
        """
        if self._rest:
            rest, self._rest = memoryview(self._rest), b""
            for at in range(0, len(rest), MAX_WRITE_BYTES):
                self.writing_since = time.monotonic()
                self._sock.sendall(rest[at : at + MAX_WRITE_BYTES])
            self.writing_since = 0.0

    def end(self) -> None:
        """The server has the response's last bytes to write yet."""
        self.writing_since = time.monotonic()

    def cut_off(self) -> None:
        """End the writer, and drop what the client did not take."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        # What gunicorn takes for a client that has gone: it closes and logs nothing.
        self._writer.kill(BrokenPipeError(errno.EPIPE, "the reader stalled"), block=False)

    def _readable(self) -> None:
        try:
            data = self._sock._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        # Data is the next request, sent early. The watcher is level-triggered: it would spin.
        self._stop()
        if not data:
            self.gone = True
            self._on_gone()

    def _stop(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()
            watcher.close()


class FastSendSocket(gevent.socket.socket):  # type: ignore[misc] # gevent has no types
    """A client's socket that tries to send at once what it is given.

    gevent's `sendall` looks up the size of the kernel's buffer and slices the data first. A piece
    of an answer nearly always fits.
    """

    _expected = b""
    _seen = ""

    def expect(self, block: bytes) -> None:
        """Look out for these bytes among what is sent next."""
        self._expected, self._seen = block, ""

    def seen_as(self) -> str:
        """How the expected bytes were sent: `chunked` or `plain`; empty: they were not."""
        self._expected = b""
        return self._seen

    @property
    def send_now(self) -> Callable[[bytes], int]:
        """Sends what the kernel takes at once; as `socket.send` of a socket that does not wait."""
        send: Callable[[bytes], int] = self._sock.send
        return send

    def sendall(self, data: Any, flags: int = 0) -> None:
        if self._expected:
            self._look_for_expected(data)
        try:
            sent = self._sock.send(data, flags)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            super().sendall(memoryview(data)[sent:], flags)

    def _look_for_expected(self, data: Any) -> None:
        block = self._expected
        if data == block:
            self._expected, self._seen = b"", "plain"
        elif data == CHUNK % (len(block), block):
            self._expected, self._seen = b"", "chunked"


def as_fast_send_socket(sock: Any) -> Any:
    """The same connection as a `FastSendSocket`; TLS stays as it is."""
    if type(sock) is not gevent.socket.socket:
        return sock
    return FastSendSocket(sock.family, sock.type, sock.proto, fileno=sock.detach())


class SlowClientGuard:
    """Cuts off the clients of this worker that take nothing.

    :param limit: seconds that one write may take.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._watched: set[Connection] = set()
        self._sweeper: Any = None

    def watch(self, connection: Connection) -> None:
        self._watched.add(connection)
        if self._sweeper is None or self._sweeper.dead:
            self._sweeper = gevent.spawn(self._sweep)

    def forget(self, connection: Connection) -> None:
        self._watched.discard(connection)

    def _sweep(self) -> None:
        while self._watched:
            gevent.sleep(self._limit / SWEEPS_PER_LIMIT)
            oldest_allowed = time.monotonic() - self._limit
            for connection in [c for c in self._watched if 0 < c.writing_since < oldest_allowed]:
                self.forget(connection)
                connection.cut_off()


@contextlib.contextmanager
def body_deadline(sock: Any, seconds: float) -> Iterator[None]:
    """Bounds the reading of a request's body; gunicorn itself would wait for ever.

    :raises BodyTimeout:
    """
    late = BodyTimeout(f"The request's body did not arrive within {seconds:g} s. Send it again.")
    if cooperative():
        with gevent.Timeout(seconds, late):
            yield
        return
    before = sock.gettimeout() if sock is not None else None
    try:
        if sock is not None:
            sock.settimeout(seconds)
        yield
    except TimeoutError:
        raise late from None
    finally:
        if sock is not None:
            sock.settimeout(before)


def socket_of(environ: dict[str, Any]) -> Any:
    """The client's socket, where the server tells it."""
    return environ.get("gunicorn.socket")
