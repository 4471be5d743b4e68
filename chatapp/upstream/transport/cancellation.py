"""Cancels one upstream request from outside, in any phase.

The SDK passes nothing of ours to the transport, but calls it in the caller's own thread or
greenlet. So the caller puts the `Cancellation` of its request into `current_cancellation`, where
the transport finds it:

    cancellation = Cancellation()
    token = current_cancellation.set(cancellation)
    try:
        response = client.send(request, stream=True)
    finally:
        current_cancellation.reset(token)

The transport keeps the reference for as long as the response is read, so the body may be read in
another thread or greenlet.
"""

import contextlib
import threading
from collections.abc import Callable
from contextvars import ContextVar

import httpx2


class Cancelled(httpx2.TransportError):
    """The request was ended by `Cancellation.cancel`; the connection to the upstream is closed.

    It is an `httpx2.TransportError`, so the OpenAI SDK turns it into an `APIConnectionError`
    with this as its `__cause__`.
    """

    def __init__(self, message: str = "The request was cancelled.") -> None:
        super().__init__(message)


class Cancellation:
    """A handle that closes the socket of one upstream request; it serves one request at a time.

    `cancel` is for whoever wants the request to end. `attach` and `detach` are for the transport.
    """

    __slots__ = ("cancelled", "close", "guard")

    def __init__(self) -> None:
        self.cancelled = False
        self.close: Callable[[], None] | None = None
        # Held around a system call that can't block, never across a wait. With it, `detach` can
        # promise that no close is still under way when the descriptor goes back to the system.
        self.guard = threading.Lock()

    def cancel(self) -> None:
        """Close the socket, now or as soon as there is one.

        From any thread or greenlet, any number of times. Never raises and never waits. Whoever
        is blocked on the socket gets `Cancelled`. The only wait that it can't shorten is a name
        lookup: there is no connection yet, and none is made afterwards.
        """
        with self.guard:
            self.cancelled = True
            self.close_attached()

    def attach(self, close: Callable[[], None]) -> None:
        """Name the way to end the request from now on; replaces the one before.

        :param close: wakes whoever is blocked on the socket; must not wait. Its errors are ignored.
        :raises Cancelled: when `cancel` came first; `close` has been called then.
        """
        with self.guard:
            self.close = close
            if not self.cancelled:
                return
            self.close_attached()
        raise Cancelled

    def detach(self) -> None:
        """Forget the socket. After the return, `cancel` will not touch it any more."""
        with self.guard:
            self.close = None

    def close_attached(self) -> None:
        close, self.close = self.close, None
        if close is not None:
            with contextlib.suppress(Exception):
                close()


current_cancellation: ContextVar[Cancellation | None] = ContextVar(
    "current_cancellation", default=None
)
"""The cancellation of the request that this thread or greenlet is about to make."""
