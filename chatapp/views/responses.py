"""A feed as a Flask response."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import Any, cast

from flask import Request, Response, request, stream_with_context
from werkzeug.utils import cached_property

from ..answers import sse
from ..delivery.client_connection import Connection, socket_of
from ..delivery.follower import Feed, follow
from ..runtime.concurrency import cooperative
from ..runtime.event_loop import HubWaker
from ..runtime.wakers import ThreadWaker
from ..service.components import Components
from ..service.open_streams import OpenStream
from .auth import has_ticket, visitor_address


class Chunks:
    """What the server iterates over, and closes however the response ends.

    It is closed even if iteration never began: after HEAD, or if the client left first.
    """

    def __init__(
        self,
        chunks: Generator[bytes],
        connection: Connection,
        asked: Request | None,
        closed: Callable[[], None],
    ) -> None:
        self._chunks = chunks
        self._closed = closed
        self._connection = connection
        self._asked = asked

    def __iter__(self) -> Iterator[bytes]:
        # All request handlers have run, and the request lasts as long as the stream.
        if self._asked is not None:
            forget_parsed(self._asked)
            self._asked = None
        return self._chunks

    def close(self) -> None:
        self._closed()
        self._chunks.close()
        self._connection.close()


class StreamResponse(Response):
    """Passes the server's own response object to the connection."""

    connection: Connection

    def __call__(self, environ: Any, start_response: Any) -> Any:
        server = getattr(start_response, "__self__", None)
        if hasattr(server, "sent"):
            self.connection.response = server
        return super().__call__(environ, start_response)


@contextlib.contextmanager
def open_stream(components: Components, owner: str) -> Iterator[OpenStream]:
    """A stream's place among the owner's, given back if no response comes of it.

    :raises TooManyStreams:
    """
    streams = components.service.streams
    place = streams.open(owner, visitor_address(owner), ticket=has_ticket())
    try:
        yield place
    finally:
        if not place.taken:
            streams.close(place)


def stream(components: Components, feed: Feed, place: OpenStream) -> Response:
    """200 and the event stream of `feed`."""
    waker = HubWaker() if cooperative() else ThreadWaker()

    def revoke() -> None:
        feed.revoked = True
        waker.wake()

    place.end, place.taken = revoke, True
    components.service.pubsub.watch()
    direct = components.settings.direct_writes
    connection = Connection(
        socket_of(request.environ), waker.wake, components.stalls, may_be_direct=direct
    )
    frames = follow(feed, connection, waker, components.settings.heartbeat)
    in_context = cast("Generator[bytes]", stream_with_context(frames))
    # The server keeps `environ` until the stream ends.
    chunks = Chunks(
        in_context,
        connection,
        request.environ.pop("werkzeug.request", None),
        lambda: components.service.streams.close(place),
    )
    # Bypasses Werkzeug's iterators, which would cost time per event.
    response = StreamResponse(chunks, headers=sse.HEADERS, direct_passthrough=True)
    response.connection = connection
    return response


def forget_parsed(asked: Request) -> None:
    """Free what was parsed from a request: a stream lasts minutes, and a history can be long.

    Later readers, such as an application's teardown, find no body; the rest is parsed again.
    """
    fields = vars(asked)
    for name in tuple(fields):
        # Only what the application's own request class has not overridden.
        found = getattr(type(asked), name, None)
        if isinstance(found, cached_property) and found is getattr(Request, name, None):
            del fields[name]
    fields["_cached_data"], fields["_cached_json"] = b"", (None, None)


def whole(frames: bytes) -> Response:
    """200 and a complete stream."""
    # Not a list: Werkzeug would send its length, and a stream has none.
    return Response(iter((sse.RETRY + frames,)), headers=sse.HEADERS)
