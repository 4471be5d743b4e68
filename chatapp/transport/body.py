"""The body of a response as the transports hand it out."""

from abc import abstractmethod
from collections.abc import Iterator

import httpx2


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

    def watchable(self) -> int | None:
        """Have reads never wait from now on, for a caller that watches the descriptor itself.

        :return: the descriptor to watch; None: this body can only be read by waiting.
        """
        return None

    def read_now(self) -> bytes | None:
        """As `read`, after `watchable`, without waiting; None: nothing is there at the moment."""
        raise NotImplementedError

    @property
    def buffered(self) -> bool:
        """Whether bytes wait above the descriptor, so that watching it does not tell of them."""
        return False

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
