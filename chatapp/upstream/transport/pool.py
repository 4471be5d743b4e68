"""Idle keep-alive connections, and an optional limit on open ones."""

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Hashable

import httpx2

from .cancellation import Cancellation, Cancelled
from .sockets import is_quiet


class IdlePool:
    """Connections that wait for their next request, by origin; the latest is used first.

    Thread-safe without a lock: a connection is in or out of its list by one atomic operation, and
    nothing here waits. Taking and giving cost the same however many streams are open.

    :param limit: connections kept for one origin; the oldest is closed for a newer one.
    :param lifetime: seconds for which a connection may be idle.
    """

    def __init__(self, limit: int, lifetime: float) -> None:
        self.limit = limit
        self.lifetime = lifetime
        self.idle: dict[Hashable, deque[tuple[socket.socket, float]]] = {}
        self.pid = os.getpid()
        self.next_sweep = 0.0

    def take(self, origin: Hashable) -> socket.socket | None:
        """A connection on which nothing has happened since it was given, if there is one."""
        if os.getpid() != self.pid:
            self.forget_parent()
        waiting = self.idle.get(origin)
        while waiting:
            try:
                sock, expires = waiting.pop()
            except IndexError:
                return None
            if time.monotonic() < expires and is_quiet(sock):
                return sock
            sock.close()
        return None

    def give(self, origin: Hashable, sock: socket.socket, lifetime: float | None = None) -> None:
        """Keep a connection whose response was read to its end.

        :param lifetime: seconds that the server promised to keep it, if it did.
        """
        now = time.monotonic()
        if os.getpid() != self.pid:
            self.forget_parent()
        if now >= self.next_sweep:
            self.sweep(now)
        lifetime = self.lifetime if lifetime is None else min(lifetime, self.lifetime)
        waiting = self.idle.setdefault(origin, deque())
        waiting.append((sock, now + lifetime))
        if len(waiting) > self.limit:
            close_oldest(waiting)

    def close(self) -> None:
        """Close every idle connection."""
        for waiting in list(self.idle.values()):
            while waiting:
                close_oldest(waiting)

    def sweep(self, now: float) -> None:
        """Close what expired at origins that nobody asks for any more."""
        self.next_sweep = now + self.lifetime
        for waiting in list(self.idle.values()):
            while waiting and waiting[0][1] <= now:
                close_oldest(waiting)

    def forget_parent(self) -> None:
        """After a fork: parent and child must not both speak on one connection.

        Closing the child's copies of the descriptors sends nothing to the peer.
        """
        self.pid = os.getpid()
        self.close()


def close_oldest(waiting: deque[tuple[socket.socket, float]]) -> None:
    try:
        sock, _ = waiting.popleft()
    except IndexError:  # another thread was faster
        return
    sock.close()


class Slots:
    """Limits concurrent requests; the others wait their turn, first come, first served."""

    def __init__(self, limit: int) -> None:
        self.free = limit
        self.waiting: deque[Turn] = deque()
        self.guard = threading.Lock()  # never held across a wait

    def take(self, timeout: float | None, cancellation: Cancellation | None) -> None:
        """Wait for a slot.

        :param timeout: seconds; None waits for ever.
        :raises httpx2.PoolTimeout: none became free in time.
        :raises Cancelled: the request was cancelled while it waited.
        """
        with self.guard:
            if self.free:
                self.free -= 1
                return
            turn = Turn()
            self.waiting.append(turn)
        try:
            if cancellation is not None:
                cancellation.attach(turn.wake.set)
            turn.wake.wait(timeout)
            if cancellation is not None:
                cancellation.detach()
                if cancellation.cancelled:
                    raise Cancelled
            if not turn.granted:
                raise httpx2.PoolTimeout("No connection became free in time; try again later.")
        except BaseException:
            self.leave(turn)
            raise

    def give(self) -> None:
        """Pass a slot on."""
        with self.guard:
            if self.waiting:
                turn = self.waiting.popleft()
                turn.granted = True
                turn.wake.set()
            else:
                self.free += 1

    def leave(self, turn: "Turn") -> None:
        with self.guard:
            if not turn.granted:
                self.waiting.remove(turn)
                return
        self.give()


class Turn:
    """One waiting request."""

    __slots__ = ("granted", "wake")

    def __init__(self) -> None:
        self.granted = False
        self.wake = threading.Event()
