"""The client's connection: is it still there, does it take what we write, does it send its body?

A synchronous generator that waits for news sees nothing of its socket. Under gevent a read watcher
on the socket tells at once when the client sends no more, and one sweep per worker cuts off readers
that take nothing. Elsewhere a vanished client is noticed when the next heartbeat is written.

**Who sends no more may still read.** A client may close its half of the connection after its
request (RFC 9293 3.6), as `nc -N` and some proxies do; one that has gone looks the same. So it is
sent a comment: who has gone answers with a reset, which becomes the socket's error.

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

from ..errors import BodyTimeout
from ..runtime.concurrency import cooperative
from .client_socket import CHUNK, FastSendSocket, peek

SWEEPS_PER_LIMIT: Final = 4
MAX_WRITE_BYTES: Final = 65_536
"""Bytes of one write: a slow client that takes so much in the send time-out is not stalled."""
MIN_LOOK_SECONDS: Final = 0.01
MAX_LOOK_SECONDS: Final = 1.0
"""Pauses between looks whether a client that sends no more has gone."""
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of 0: the kernel drops what the reader did not take."""


class _Uncounted:
    """Stands in for a server's response that counts nothing."""

    sent = 0


_UNCOUNTED: Final = _Uncounted()


class Connection:
    """The connection that one streamed response is written to.

    Made by the greenlet that writes it.

    :param wake: called when the client has gone, or may have; may run in gevent's hub, so it must
        neither wait nor raise.
    :param may_be_direct: whether `try_send` is wanted where it is possible.
    """

    __slots__ = (
        "_chunked",
        "_decided",
        "_rest",
        "_send",
        "_sock",
        "_stalls",
        "_wake",
        "_watcher",
        "_writer",
        "direct",
        "gone",
        "maybe_gone",
        "response",
        "writing_since",
    )

    def __init__(
        self,
        sock: Any,
        wake: Callable[[], None],
        stalls: "SlowClientGuard",
        *,
        may_be_direct: bool = True,
    ) -> None:
        self.gone = False
        self.maybe_gone = False
        """Whether the next write tells: the client sends no more."""
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
        self._wake = wake
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
            data = peek(self._sock)
        except OSError:
            self._note_gone()
            return
        if data is None:
            return
        # Data is the next request, sent early. The watcher is level-triggered: it would spin.
        self._stop()
        if not data:
            self.maybe_gone = True
            self._look_for_reset(MIN_LOOK_SECONDS)
            self._wake()

    def _look_for_reset(self, pause: float) -> None:
        """See whether the kernel has an error for us, and again after a pause."""
        self._stop()
        if self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._note_gone()
            return
        self._watcher = gevent.get_hub().loop.timer(pause)
        self._watcher.start(self._look_for_reset, min(2 * pause, MAX_LOOK_SECONDS))

    def _note_gone(self) -> None:
        self._stop()
        self.gone = True
        self._wake()

    def _stop(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()
            watcher.close()


class SlowClientGuard:
    """Cuts off the clients of this worker that take nothing.

    :param limit: seconds that one write may take.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._watched: set[Connection] = set()
        self._sweeper: Any = None

    def __len__(self) -> int:
        """How many responses are being written."""
        return len(self._watched)

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
