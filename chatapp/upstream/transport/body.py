"""The body of a response, as the transports provide it."""

import threading
from abc import abstractmethod
from collections.abc import Iterator
from typing import Protocol

import httpx2

from .cancellation import Cancelled


class Readable(Protocol):
    """The bytes of a body for a caller that watches the descriptor itself; no read ever waits."""

    @property
    def descriptor(self) -> int:
        """What to watch."""

    @property
    def pending(self) -> bool:
        """Whether there is more to read that watching the descriptor does not show."""

    def receive_now(self) -> bytes | None:
        """The next bytes; None: nothing at the moment; `b""`: the end of the body.

        :raises httpx2.TransportError: as `RawBody.read`.
        """


class RawBody(httpx2.SyncByteStream):
    """The bytes of a body as they arrive, before any Content-Encoding is undone.

    It is the stream of the `httpx2.Response`, and also `response.extensions["raw_body"]`: there it
    can be read without the layers above it, which cost more per piece than the network does. Use
    only one of the two ways. A direct reader must still close the response at the end, and use
    `response.iter_bytes()` for a response with a Content-Encoding.
    """

    @abstractmethod
    def read(self) -> bytes:
        """The next bytes, as soon as there are any; `b""` at the end of the body.

        :raises Cancelled: the request was cancelled.
        :raises httpx2.ReadTimeout: nothing came for the read timeout of the request.
        :raises httpx2.TransportError: the connection broke, or the upstream broke the protocol.
        """

    def watchable(self) -> Readable | None:
        """Switch to reads that never wait: the result has the rest of the body.

        :return: None: this body can only be read by waiting.
        """
        return None

    @abstractmethod
    def drain(self, seconds: float) -> bool:
        """Discard the rest, for at most so many seconds, so that the connection can be kept.

        For a body whose meaning ended before its bytes did, as an SSE stream does at `[DONE]`.
        Never raises for what the upstream or the network does.

        :return: whether the end was reached. If not, the connection is closed.
        """

    @abstractmethod
    def shut_down(self) -> None:
        """Have whoever reads find the end. From any thread; never waits."""

    def collect(self, limit: int, seconds: float) -> bytes:
        """What comes of the body in so many seconds, and at most so many bytes.

        :raises Cancelled: the request was cancelled. What else breaks it off is its end.
        """
        late = threading.Timer(seconds, self.shut_down)
        late.daemon = True
        late.start()
        content = bytearray()
        try:
            while len(content) < limit and (data := self.read()):
                content += data
        except Cancelled:
            raise
        except httpx2.TransportError:
            pass
        finally:
            late.cancel()
        return bytes(content[:limit])

    def __iter__(self) -> Iterator[bytes]:
        while data := self.read():
            yield data
