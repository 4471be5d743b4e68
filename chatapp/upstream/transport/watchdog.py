"""Read timeouts for many open bodies, at the cost of one sleeping thread.

A timeout on the socket costs a poll before each read in a thread, and under gevent a timer that is
started and stopped for each read: 2 to 4 µs, more than the parser takes. A body is read thousands
of times and almost never times out, so its reads only count themselves; one thread (a greenlet
where gevent has patched) looks at the counts once a second.
"""

import os
import threading
import time

from .sockets import AttachedSocket


class Watched:
    """The reads of one body. The reader adds one to `turn` before a read and one after it."""

    __slots__ = ("attached", "expired", "seen", "since", "timeout", "turn")

    def __init__(self, attached: AttachedSocket, timeout: float) -> None:
        self.attached = attached
        self.timeout = timeout
        self.turn = 0
        self.expired = False
        self.seen = 0
        self.since = 0.0

    def overdue(self, now: float) -> bool:
        """Whether one and the same read has been waiting for the timeout. Never true too early."""
        turn = self.turn
        if turn != self.seen:
            self.seen, self.since = turn, now
        waiting = turn % 2 == 1
        return waiting and now - self.since >= self.timeout


class Watchdog:
    """Shuts down the connections whose reads are overdue.

    :param tick: seconds between checks; a timeout may strike up to two of them late.
    """

    def __init__(self, tick: float = 1.0) -> None:
        self.tick = tick
        self.watched: set[Watched] = set()
        self.guard = threading.Lock()  # never held across a wait
        self.running_in: int | None = None

    def watch(self, attached: AttachedSocket, timeout: float) -> Watched:
        """Begin to watch; `forget` ends it."""
        watched = Watched(attached, timeout)
        with self.guard:
            self.watched.add(watched)
            if self.running_in == os.getpid():
                return watched
            self.running_in = os.getpid()
        threading.Thread(target=self.run, name="read-timeouts", daemon=True).start()
        return watched

    def forget(self, watched: Watched) -> None:
        """After the return, the connection is not touched any more."""
        with self.guard:
            self.watched.discard(watched)

    def run(self) -> None:
        while True:
            time.sleep(self.tick)
            now = time.monotonic()
            for watched in self.watched.copy():
                if watched.overdue(now):
                    self.expire(watched)
            with self.guard:
                if not self.watched:
                    self.running_in = None
                    return

    def expire(self, watched: Watched) -> None:
        with self.guard:
            if watched in self.watched:
                self.watched.discard(watched)
                watched.expired = True
                watched.attached.shutdown()
