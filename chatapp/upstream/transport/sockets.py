"""Sockets that a `Cancellation` can end in every phase: connect, handshake, read, write.

Everything here is the standard library's `socket` and `ssl`: it blocks the thread, or only the
greenlet where gevent has patched them. Errors are the standard library's own (`OSError`,
`TimeoutError`); each transport renames them.
"""

import contextlib
import socket
import ssl
import time

from .cancellation import Cancellation


class AttachedSocket:
    """A socket and the cancellation that may end it. Only its owner closes it, never `cancel`.

    A descriptor that is closed under a blocked reader may be opened again for another connection
    before that reader wakes. So `cancel` shuts the connection down, which wakes the reader and
    tells the peer; the owner closes the descriptor.
    """

    __slots__ = ("cancellation", "sock")

    def __init__(self, sock: socket.socket, cancellation: Cancellation | None) -> None:
        self.sock = sock
        self.cancellation = cancellation
        if cancellation is not None:
            try:
                cancellation.attach(self.shutdown)
            except BaseException:
                sock.close()
                raise

    @property
    def cancelled(self) -> bool:
        cancellation = self.cancellation
        return cancellation is not None and cancellation.cancelled

    def shutdown(self) -> None:
        shut_down(self.sock)

    def close(self) -> None:
        """Close the descriptor. Only the thread or greenlet that reads and writes may call it."""
        if self.cancellation is not None:
            self.cancellation.detach()
        self.sock.close()


def shut_down(sock: socket.socket) -> None:
    """End both directions: the peer sees the end, whoever is blocked on the socket wakes."""
    with contextlib.suppress(OSError):
        if isinstance(sock, ssl.SSLSocket):
            # SSLSocket.shutdown drops the TLS state under the feet of a reader in another thread.
            super(ssl.SSLSocket, sock).shutdown(socket.SHUT_RDWR)
        else:
            sock.shutdown(socket.SHUT_RDWR)


def open_socket(
    host: str, port: int, timeout: float | None, cancellation: Cancellation | None
) -> AttachedSocket:
    """Connect to the first address of the host that accepts.

    :param timeout: seconds for all addresses together; each gets an equal share of what is left,
        so that a dead first address leaves time for the others. None waits for ever.
    :raises TimeoutError: the last address didn't answer in its share.
    :raises OSError: the name is unknown, or the last address refused.
    :raises Cancelled: the request was cancelled before the connection was made.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # an over-long label
        raise OSError(f"{host} is not a host name") from error
    failure: OSError = OSError(f"{host} has no address")
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        share = None
        if deadline is not None:
            share = max(0.001, (deadline - time.monotonic()) / (len(addresses) - index))
        attached = AttachedSocket(socket.socket(family, kind, protocol), cancellation)
        try:
            attached.sock.settimeout(share)
            attached.sock.connect(address)
            attached.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            attached.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            attached.close()
            failure = error
            if attached.cancelled:
                break
        except BaseException:
            attached.close()
            raise
        else:
            return attached
    raise failure


def start_tls(
    plain: AttachedSocket, context: ssl.SSLContext, host: str, timeout: float | None
) -> AttachedSocket:
    """Do the TLS handshake on a connected socket and check the certificate; `plain` is used up.

    :param host: the name to ask for (SNI) and to find in the certificate.
    :param timeout: seconds for each wait of the handshake.
    :raises TimeoutError: the peer fell silent.
    :raises OSError: the handshake failed; `ssl.SSLCertVerificationError` is one of these.
    :raises Cancelled: the request was cancelled.
    """
    cancellation = plain.cancellation
    try:
        plain.sock.settimeout(timeout)
        # The handshake waits until the new socket is attached; wrap_socket empties the old one.
        wrapped = context.wrap_socket(
            plain.sock, server_hostname=host, do_handshake_on_connect=False
        )
    except BaseException:
        plain.close()
        raise
    tls = AttachedSocket(wrapped, cancellation)
    try:
        wrapped.do_handshake()
    except BaseException:
        tls.close()
        raise
    return tls


def is_quiet(sock: socket.socket) -> bool:
    """Whether an idle connection is still open and has nothing to read.

    Nothing is due, so what can be read is the peer's close, or a response that nobody asked for:
    the connection is of no use. With a timeout of 0, in which the socket is left, neither the
    kernel nor gevent's hub waits.
    """
    try:
        sock.settimeout(0)
        if isinstance(sock, ssl.SSLSocket):
            super(ssl.SSLSocket, sock).recv(1, socket.MSG_PEEK)
        else:
            sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
