"""What a gunicorn gevent worker does before its first request and after its last.

It goes down without cutting an answer that can still end:

    signal            the worker closes its listener; idle keep-alive connections end; push streams
                      are told to come back; answers run on, read on the connection they began on
    grace - margin    the readers of answers that still run are told to come back elsewhere, then
                      these answers are ended as `interrupted` and saved
    grace             gunicorn's master would kill what is left; nothing is

gunicorn's own worker takes an idle keep-alive connection for a running request, and the end of all
connections for the end of all work. `attach` corrects both from `post_worker_init`, `finish` holds
the process from `worker_exit`. Private to gunicorn are `worker.timeout_ctx` and the names of its
signal handlers; a test fails if they change.
"""

import gc
import logging
import signal
import sys
import time
import weakref
from typing import Any, Final, Self

import gevent

from .delivery.client_connection import as_fast_send_socket
from .service.components import Components

logger = logging.getLogger(__name__)

POLL: Final = 0.1
"""Seconds between looks at `worker.alive`, which every signal clears."""
FAREWELL: Final = 1.0
"""Seconds that the readers get, at the most, to write their last line."""
SAVE_SECONDS: Final = 2.0
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
    handle = worker.handle
    worker.handle = lambda listener, client, address: handle(
        listener, as_fast_send_socket(client), address
    )
    for components in _chats:
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
        self._idle: dict[Any, gevent.Timeout] = {}
        worker.chatapp_drain = self
        worker.timeout_ctx = lambda: _IdleTime(worker, self._idle)
        self._interrupts = 0
        # Ctrl-C and QUIT would end the process at once; they go the way of TERM.
        signal.signal(signal.SIGQUIT, worker.handle_exit)
        signal.signal(signal.SIGINT, self._interrupt)
        self._work = gevent.spawn(self._run)

    def _interrupt(self, number: int, frame: Any) -> None:
        """A second Ctrl-C means: now. The master answers the first with a QUIT of its own."""
        self._interrupts += 1
        self._worker.handle_exit(number, frame)

    def finish(self) -> None:
        """Wait for the drain; without a signal (the master is gone) there is no time for one."""
        if self._worker.alive:
            self._worker.alive = False
            self._finish_answers()
        self._work.join()

    def _run(self) -> None:
        while self._worker.alive:
            gevent.sleep(POLL)
        begun = time.monotonic()
        for components in _chats:
            components.service.pubsub.drain()
        self._end_idle()
        self._wait_for_answers(begun)
        self._finish_answers()

    def _end_idle(self) -> None:
        loop = gevent.get_hub().loop
        for greenlet, timeout in tuple(self._idle.items()):
            loop.run_callback(self._end_if_idle, greenlet, timeout)

    def _end_if_idle(self, greenlet: Any, timeout: gevent.Timeout) -> None:
        # In the hub, so that nothing comes between the look and the throw: a request that has just
        # begun must not be hit. It is its own timeout, come early, which gunicorn takes for the end
        # of the idle time.
        if self._idle.get(greenlet) is timeout:
            greenlet.throw(timeout)

    def _wait_for_answers(self, begun: float) -> None:
        grace = self._worker.cfg.graceful_timeout
        for components in _chats:
            deadline = begun + grace - min(components.settings.drain_margin, grace / 2)
            if running := components.service.answers.running:
                left = deadline - time.monotonic()
                logger.info("worker %d waits %.0f s for answers: %d", self._pid, left, running)
            while self._interrupts < 2 and time.monotonic() < deadline:
                if components.service.answers.join(POLL):
                    break

    def _finish_answers(self) -> None:
        running = sum(components.service.answers.running for components in _chats)
        if running:
            logger.warning("worker %d goes down; answers that end early: %d", self._pid, running)
        for components in _chats:
            components.service.drain()
        deadline = time.monotonic() + FAREWELL
        while (
            any(components.service.answers.readers for components in _chats)
            and time.monotonic() < deadline
        ):
            gevent.sleep(POLL)
        for components in _chats:
            components.service.finish(SAVE_SECONDS)


class _IdleTime:
    """Stands in for gunicorn's `gevent.Timeout(keepalive, False)` around an idle connection."""

    def __init__(self, worker: Any, idle: dict[Any, gevent.Timeout]) -> None:
        self._worker = worker
        self._idle = idle

    def __enter__(self) -> Self:
        seconds = self._worker.cfg.keepalive if self._worker.alive else 0.001
        self._timeout = gevent.Timeout.start_new(seconds, False)
        self._idle[gevent.getcurrent()] = self._timeout
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> bool:
        self._idle.pop(gevent.getcurrent(), None)
        self._timeout.close()
        return error is self._timeout
