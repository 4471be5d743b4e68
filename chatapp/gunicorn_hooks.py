"""What a gunicorn gevent worker does before its first request and after its last.

It goes down without cutting an answer that can still end, or a visitor who was let in:

    signal            the worker lets in who waits and closes its listener; push streams are told to
                      come back; idle keep-alive connections end, after `REUSE_SECONDS` where others
                      serve; questions on the other connections are answered; answers run on, read
                      on the connection they began on
    grace - margin    the readers of answers that still run are told to come back elsewhere, then
                      these answers are ended as `interrupted` and saved; questions are refused
    grace             gunicorn's master would kill what is left; nothing is

gunicorn's own worker takes an idle keep-alive connection for a running request, and the end of all
connections for the end of all work. `attach` corrects both from `post_worker_init`, `finish` holds
the process from `worker_exit`. Private to gunicorn are `worker.timeout_ctx`, `worker.server_class`,
`worker.max_requests` and the names of its signal handlers; a test fails if they change.

A HUP tells a worker that others serve in its place: see `manage_workers` in `gunicorn.conf.py`.
"""

import contextlib
import gc
import logging
import os
import signal
import sys
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Self

import gevent
from gevent.server import StreamServer

from .delivery.client_socket import as_fast_send_socket, peek
from .service.components import Components

logger = logging.getLogger(__name__)

POLL: Final = 0.1
"""Seconds between looks at `worker.alive`, which every signal clears."""
FAREWELL: Final = 1.0
"""Seconds that the readers get, at the most, to write their last line."""
SAVE_SECONDS: Final = 2.0
REUSE_SECONDS: Final = 5.0
"""How long an idle connection may still be used where others serve: a proxy that takes it for its
next request while we close it can't know whether a question was asked. Above the time after which
the proxy closes it."""
GC_THRESHOLD: Final = 50_000
"""Objects that may be made, less those that were freed, before the collector looks."""
SWITCH_SECONDS: Final = 0.0005
"""How long a native thread, such as one that writes to the database, may keep the interpreter while
the thread of the streams wants it. Python's own 5 ms would be waited for at each system call."""

_chats: "weakref.WeakSet[Components]" = weakref.WeakSet()


def register(components: Components) -> None:
    """Have the workers of this process wait for a chat's answers."""
    _chats.add(components)


def attach(worker: Any) -> None:
    """Call from gunicorn's `post_worker_init` hook, before anything is served."""
    # What was loaded stays: no collection needs to look at it again. And what an answer leaves is
    # freed by its reference counts, so collections may be rare.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    sys.setswitchinterval(SWITCH_SECONDS)
    _log_beside_gunicorn(worker.log.error_log)
    Drain(worker)
    for components in _chats:
        logger.info("%s", components.service.limits.told())
        components.upstream.prepare()
        components.service.begin()
        components.setup.begin()


def _log_beside_gunicorn(server_log: logging.Logger) -> None:
    """Our lines with time, process and level, where nobody has configured logging."""
    if not logging.getLogger().handlers:
        package = logging.getLogger(__package__)
        package.handlers = package.handlers or server_log.handlers
        package.setLevel(server_log.level)


def finish(worker: Any) -> None:
    """Call from gunicorn's `worker_exit` hook: returns when the worker may end."""
    drain: Drain | None = getattr(worker, "chatapp_drain", None)
    if drain is not None:
        drain.finish()


class Drain:
    """Watches one worker for the end of its service."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._pid = worker.pid
        self._connections = _Connections(worker, self._begin)
        self._max_requests, worker.max_requests = worker.max_requests, sys.maxsize
        self._interrupts = 0
        self._others_serve = True
        worker.chatapp_drain = self
        # Ctrl-C and QUIT would end the process at once; they go the way of TERM.
        for number, handler in (
            (signal.SIGHUP, worker.handle_exit),
            (signal.SIGTERM, self._stop),
            (signal.SIGQUIT, self._stop),
            (signal.SIGINT, self._interrupt),
        ):
            signal.signal(number, handler)
            signal.siginterrupt(number, False)
        self._work: Any = None

    def _begin(self) -> None:
        """The worker is about to accept connections."""
        if self._work is None:
            self._work = gevent.spawn(self._run)

    def _stop(self, number: int, frame: Any) -> None:
        """The whole server goes down."""
        self._others_serve = False
        self._worker.handle_exit(number, frame)

    def _interrupt(self, number: int, frame: Any) -> None:
        """A second Ctrl-C means: now. The master answers the first with a QUIT of its own."""
        self._interrupts += 1
        self._stop(number, frame)

    def finish(self) -> None:
        """Wait for the drain; without a signal (the master is gone) there is no time for one."""
        if self._worker.alive or self._work is None:
            self._worker.alive = False
            self._finish_answers()
        if self._work is not None:
            self._work.join()

    def _run(self) -> None:
        self._have_master_look()  # It has to know that this worker serves.
        while self._worker.alive:
            if self._worker.nr >= self._max_requests:
                self._max_requests = sys.maxsize
                self._ask_for_replacement()
            gevent.sleep(POLL)
        begun = time.monotonic()
        self._ask_for_replacement()
        self._connections.close_listeners()
        for components in _chats:
            components.service.pubsub.drain()
        self._wait(begun)
        self._finish_answers()

    def _ask_for_replacement(self) -> None:
        """Have the master start another worker, and tell this one when that serves."""
        with contextlib.suppress(ValueError):  # The file is closed: the worker is all but gone.
            os.ftruncate(self._worker.tmp.fileno(), 1)
            self._have_master_look()

    def _have_master_look(self) -> None:
        """Have it look at its workers now, as when one has ended, and not within a second."""
        with contextlib.suppress(PermissionError):  # It is another user's.
            os.kill(self._worker.ppid, signal.SIGCHLD)

    def _wait(self, begun: float) -> None:
        """Wait until nothing is written and nobody can ask, at most until the margin."""
        grace = self._worker.cfg.graceful_timeout
        margin = max((components.settings.drain_margin for components in _chats), default=0.0)
        deadline = begun + grace - min(margin, grace / 2)
        if running := self._running:
            left = deadline - time.monotonic()
            logger.info("worker %d waits %.0f s for answers: %d", self._pid, left, running)
        while self._interrupts < 2 and time.monotonic() < deadline:
            self._connections.end_idle(begun, REUSE_SECONDS if self._others_serve else 0.0)
            streams = sum(len(components.stalls) for components in _chats)
            if not self._running and self._connections.count <= streams:
                return
            gevent.sleep(POLL)

    @property
    def _running(self) -> int:
        return sum(components.service.answers.running for components in _chats)

    def _finish_answers(self) -> None:
        if running := self._running:
            logger.warning("worker %d goes down; answers that end early: %d", self._pid, running)
        for components in _chats:
            components.service.drain()
        gevent.spawn(self._connections.end_waiting)
        deadline = time.monotonic() + FAREWELL
        while (
            any(components.service.answers.readers for components in _chats)
            and time.monotonic() < deadline
        ):
            gevent.sleep(POLL)
        for components in _chats:
            components.service.finish(SAVE_SECONDS)


class _Connections:
    """Lets visitors in, and ends the connections that wait for a request.

    :param begin: called before the first of them is let in.
    """

    def __init__(self, worker: Any, begin: Callable[[], None]) -> None:
        self._worker = worker
        self._begin = begin
        self._handle = worker.handle
        self._listeners: list[_Listener] = []
        self._open: dict[Any, _Connection] = {}
        """By the greenlet that serves it."""
        worker.server_class = self._listen
        worker.timeout_ctx = lambda: self._open[gevent.getcurrent()]

    @property
    def count(self) -> int:
        """Of those that were accepted, also where nobody has begun to serve them."""
        return sum(len(listener.pool) for listener in self._listeners)

    def _listen(self, sock: Any, spawn: Any, **options: Any) -> "_Listener":
        """What gunicorn makes where it has no class of servers; most options are for such ones."""
        tls = {name: value for name, value in options.items() if name == "ssl_context"}
        listener = _Listener(sock, self._serve, spawn, **tls)
        if self._worker.cfg.workers > 1:
            listener.max_accept = 1
        self._listeners.append(listener)
        self._begin()
        return listener

    def _serve(self, listener: "_Listener", client: Any, address: Any) -> None:
        client = as_fast_send_socket(client)
        greenlet = gevent.getcurrent()
        self._open[greenlet] = _Connection(client, self._worker.cfg.keepalive)
        try:
            self._handle(listener, client, address)
        finally:
            del self._open[greenlet]

    def close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    def end_idle(self, begun: float, seconds: float) -> None:
        """End those that had a request, and have waited for another for so long since then."""
        latest = time.monotonic() - seconds
        for greenlet, connection in self._open.items():
            if connection.asked and max(connection.waits_since, begun) <= latest:
                connection.end(greenlet)

    def end_waiting(self) -> None:
        """From now on, end all that wait for a request."""
        while True:
            for greenlet, connection in self._open.items():
                connection.end(greenlet)
            gevent.sleep(POLL)


class _Connection:
    """One visitor's; a context that bounds a wait, as gunicorn's `gevent.Timeout` would.

    :param seconds: that a request's head may take.
    """

    __slots__ = ("_seconds", "_sock", "_timeout", "asked", "waits_since")

    def __init__(self, sock: Any, seconds: float) -> None:
        self._sock = sock
        self._seconds = seconds
        self._timeout: Any = None
        self.asked = False
        """Whether it had a request."""
        self.waits_since = 0.0
        """Monotonic seconds, of the wait that came last."""

    def __enter__(self) -> Self:
        self.waits_since = time.monotonic()
        self._timeout = gevent.Timeout.start_new(self._seconds, False)
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> bool:
        timeout, self._timeout = self._timeout, None
        timeout.close()
        self.asked = True
        return error is timeout

    def end(self, greenlet: Any) -> None:
        """Close it, if it waits."""
        if self._timeout is not None:
            gevent.get_hub().loop.run_callback(self._end_wait, greenlet, self._timeout)

    def _end_wait(self, greenlet: Any, timeout: gevent.Timeout) -> None:
        # In the hub, so that nothing comes between the look and the throw: a request that has just
        # begun must not be hit. It is its own timeout, come early, which gunicorn takes for the end
        # of the idle time.
        with contextlib.suppress(OSError):
            if self._timeout is not timeout or peek(self._sock):
                return
        greenlet.throw(timeout)


class _Listener(StreamServer):  # type: ignore[misc] # gevent has no types
    """Accepts connections; who waits when it closes is let in."""

    def __init__(
        self, sock: Any, serve: Callable[["_Listener", Any, Any], None], spawn: Any, **tls: Any
    ) -> None:
        super().__init__(sock, handle=partial(serve, self), spawn=spawn, **tls)

    def getsockname(self) -> Any:
        """The socket's, for gunicorn, which asks when the socket may be closed already."""
        return self.address

    def close(self) -> None:
        with contextlib.suppress(OSError):
            while self.started and not self.full() and (accepted := self.do_read()):
                self.do_handle(*accepted)
        super().close()
