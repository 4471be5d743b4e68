"""A relay in front of a server, whose replies come late."""

import contextlib
import socket
import threading
import time
from typing import Final

CHUNK: Final = 1 << 16


class SlowProxy:
    """Passes connections on to a port of this machine.

    :param port: the server's.
    :param delay: seconds by which each reply is late.
    """

    def __init__(self, port: int, delay: float) -> None:
        self._port = port
        self._delay = delay
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """Cut all connections, and take no more."""
        for each in (self._listener, *self._sockets):
            _shut(each)
        for thread in self._threads:
            thread.join(10)
        for each in (self._listener, *self._sockets):
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                server = socket.create_connection(("127.0.0.1", self._port))
                self._sockets.append(server)
                for way in ((client, server, 0.0), (server, client, self._delay)):
                    self._threads.append(threading.Thread(target=_relay, args=way))
                    self._threads[-1].start()


def _relay(source: socket.socket, target: socket.socket, delay: float) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            time.sleep(delay)
            target.sendall(data)
    _shut(source)
    _shut(target)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
