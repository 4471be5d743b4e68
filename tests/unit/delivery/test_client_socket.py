"""What is sent by a client's socket arrives, and its faults are those of gevent's."""

import contextlib
import errno
import socket

import gevent
import pytest

from chatapp.delivery.client_socket import FastSendSocket, as_fast_send_socket
from tests.support.event_loop import pair

__all__ = ["pair"]

pytestmark = pytest.mark.timeout(30)


def test_it_sends_everything_when_the_kernel_takes_only_a_part(pair):
    data = bytes(range(256)) * 16_384  # more than a socket's buffer
    sock = as_fast_send_socket(pair[0])
    assert isinstance(sock, FastSendSocket)
    received = bytearray()

    def receive() -> None:
        while piece := pair[1].recv(65_536):
            received.extend(piece)

    receiver = gevent.spawn(receive)
    with sock:
        sock.sendall(b"first")
        sock.sendall(memoryview(data))
        sock.sendall(b"")
        sock.sendall(b"last")
    receiver.get(timeout=20)
    assert bytes(received) == b"first" + data + b"last"


def test_it_sends_everything_when_the_kernel_takes_nothing_at_first(pair):
    with as_fast_send_socket(pair[0]) as sock:
        filled = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                filled += sock._sock.send(b"x" * 65_536)
        sender = gevent.spawn(sock.sendall, b"behind")
        gevent.sleep(0)
        assert not sender.ready()
        received = b""
        while len(received) < filled + len(b"behind"):
            received += pair[1].recv(65_536)
        sender.get(timeout=10)
    assert received == b"x" * filled + b"behind"


@pytest.mark.parametrize("make", [as_fast_send_socket, lambda sock: sock])
def test_it_raises_as_gevent_does(pair, make):
    sock = make(pair[0])
    with pytest.raises(TypeError):
        sock.sendall("text")
    pair[1].close()
    with pytest.raises(BrokenPipeError):
        sock.sendall(b"nobody takes this")
    sock.close()
    with pytest.raises(OSError, match=rf"Errno {errno.EBADF}\b"):
        sock.sendall(b"nor this")


@pytest.mark.parametrize("make", [as_fast_send_socket, lambda sock: sock])
def test_it_times_out_as_gevent_does(pair, make):
    with make(pair[0]) as sock:
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.sendall(bytes(1 << 24))


def test_quick_takes_the_connection_over_and_leaves_other_sockets_alone(pair):
    descriptor = pair[0].fileno()
    with as_fast_send_socket(pair[0]) as sock:
        assert (sock.fileno(), pair[0].fileno()) == (descriptor, -1)
        assert as_fast_send_socket(sock) is sock
    plain = socket.socket()
    with plain:
        assert as_fast_send_socket(plain) is plain
