"""New visitors who keep coming, each on a connection of its own."""

import http.client
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

THINKS = 0.02
"""Seconds between a visitor's connecting and its request, as with browsers that connect ahead."""
THREADS = 10

Address = tuple[str, int] | str
"""Of TCP, or the path of a Unix socket."""


class Visitors:
    """Half of them look at something, half ask; what becomes of them is counted."""

    def __init__(self, addresses: list[Address]) -> None:
        self.replies: Counter[int] = Counter()
        """By their status."""
        self.left: list[str] = []
        """What went wrong with those who got none."""
        self._addresses = addresses
        self._over = threading.Event()

    @property
    def count(self) -> int:
        return self.replies.total() + len(self.left)

    @property
    def refused(self) -> list[int]:
        """The statuses that a visitor of a healthy server never sees."""
        return [status for status in self.replies if status not in (200, 202)]

    @contextmanager
    def coming(self, rate: float) -> Iterator["Visitors"]:
        """Have them come, about so many a second."""
        threads = [
            threading.Thread(target=self._come, args=(n, THREADS / rate), daemon=True)
            for n in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join(60)

    def _come(self, number: int, pause: float) -> None:
        while not self._over.wait(pause):
            number += 1
            try:
                self.replies[self._visit(number)] += 1
            except (OSError, http.client.HTTPException) as error:
                self.left.append(repr(error))

    def _visit(self, number: int) -> int:
        with connect(self._addresses[number % len(self._addresses)]) as sock:
            threading.Event().wait(THINKS)
            sock.sendall(question("a visitor asks") if number // 2 % 2 else LOOK)
            return read_reply(sock).status


LOOK = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def question(message: str) -> bytes:
    """A request that starts an answer."""
    body = json.dumps({"message": message}).encode()
    return (
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )


def connect(address: Address) -> socket.socket:
    if not isinstance(address, str):
        return socket.create_connection(address, timeout=30)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(address)
    return sock


def read_reply(sock: socket.socket) -> http.client.HTTPResponse:
    """The reply to one request, its body read; the connection stays open."""
    response = http.client.HTTPResponse(sock)
    response.begin()
    response.body = response.read()  # type: ignore[attr-defined]
    return response
