"""A client's socket: sends without detours, tells what was sent, is looked at without reading."""

import socket
from collections.abc import Callable
from typing import Any, Final

import gevent.socket

CHUNK: Final = b"%X\r\n%b\r\n"
"""[RFC 9112 7.1] A part of a response whose length is not told: size and data."""


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


def peek(sock: Any) -> bytes | None:
    """What a client's socket has for us, up to a byte, which stays; empty: its end; None: nothing.

    :param sock: gevent's.
    :raises OSError: the connection is broken.
    """
    try:
        data: bytes = sock._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    return data
