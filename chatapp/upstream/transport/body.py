"""The body of a response as the transports hand it out."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Protocol

import httpx2


class Readable(Protocol):
    """The bytes of a body for a caller that watches the descriptor itself; no read ever waits."""

    @property
    def descriptor(self) -> int:
        """What to watch."""

    @property
    def pending(self) -> bool:
        """Whether there is more to read, though watching the descriptor does not tell of it."""

    def receive_now(self) -> bytes | None:
        """The next bytes; None: nothing is there at the moment; `b""`: the end of the body.

        :raises httpx2.TransportError: as `RawBody.read`.
        """


class RawBody(httpx2.SyncByteStream):
    """The bytes of a body as they arrive, before any Content-Encoding is undone.

    It is the stream of the `httpx2.Response`, and also `response.extensions["raw_body"]`: there it
    can be read without the layers above it, which cost more per piece than the network does. Only
    one of the two ways may be used. Whoever reads it directly still closes the response at the end,
    and leaves a response with a Content-Encoding to `response.iter_bytes()`.
    """

    @abstractmethod
    def read(self) -> bytes:
        """The next bytes, as soon as there are any; `b""` at the end of the body.

        :raises Cancelled: the request was cancelled.
        :raises httpx2.ReadTimeout: nothing came for the read timeout of the request.
        :raises httpx2.TransportError: the connection broke, or the upstream broke the protocol.
        """

    def watchable(self) -> Readable | None:
        """Have no read wait from now on: what is left of the body is to be had from the result.

        :return: None: this body can only be read by waiting.
        """
        return None

    @abstractmethod
    def drain(self, seconds: float) -> bool:
        """Throw away what is left, for at most so many seconds, so that the connection can be kept.

        For a body whose meaning ended before its bytes did, as an SSE stream does at `[DONE]`.
        Never raises for what the upstream or the network does.

        :return: whether the end was reached. If not, the connection is closed.
        """

    def __iter__(self) -> Iterator[bytes]:
        while data := self.read():
            yield data
