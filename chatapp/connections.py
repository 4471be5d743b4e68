"""The client's end of a connection: whether it is still there, takes what we write, sends its body.

A synchronous generator that waits for news sees nothing of its socket. Under gevent a read watcher
on the socket tells at once when the client has gone, and one sweep per worker cuts off readers that
take nothing. Elsewhere a vanished client is noticed when the next heartbeat is written.
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
from gevent import monkey

from .errors import BodyTimeout

SWEEPS_PER_LIMIT: Final = 4
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of 0: the kernel drops what the reader did not take."""


class Connection:
    """The connection that one streamed response is written to.

    Made by the greenlet that writes it.

    :param on_gone: called once, when the client has closed it; may run in gevent's hub, so it must
        neither wait nor raise.
    """

    __slots__ = ("_on_gone", "_sock", "_stalls", "_watcher", "_writer", "gone", "writing_since")

    def __init__(self, sock: Any, on_gone: Callable[[], None], stalls: "StallGuard") -> None:
        self.gone = False
        self.writing_since = 0.0
        self._sock = sock
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


class QuickSocket(gevent.socket.socket):  # type: ignore[misc] # gevent has no types
    """A client's socket that tries to send at once what it is given.

    gevent's `sendall` looks up the size of the kernel's buffer and slices the data first. A piece
    of an answer nearly always fits.
    """

    def sendall(self, data: Any, flags: int = 0) -> None:
        try:
            sent = self._sock.send(data, flags)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            super().sendall(memoryview(data)[sent:], flags)


def quick(sock: Any) -> Any:
    """The same connection as a `QuickSocket`; TLS stays as it is."""
    if type(sock) is not gevent.socket.socket:
        return sock
    return QuickSocket(sock.family, sock.type, sock.proto, fileno=sock.detach())


class StallGuard:
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


def cooperative() -> bool:
    """Whether gevent has made sockets cooperative in this process."""
    return bool(monkey.is_module_patched("socket"))


def socket_of(environ: dict[str, Any]) -> Any:
    """The client's socket, where the server tells it."""
    return environ.get("gunicorn.socket")
