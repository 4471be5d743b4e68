"""A feed as a Flask response."""

from collections.abc import Generator, Iterator
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


class Chunks:
    """What the server iterates over, and closes however the response ends.

    Also where the iteration never began: after HEAD, or when the client went away first.
    """

    def __init__(
        self, chunks: Generator[bytes], connection: Connection, asked: Request | None
    ) -> None:
        self._chunks = chunks
        self._connection = connection
        self._asked = asked

    def __iter__(self) -> Iterator[bytes]:
        # Whoever has to do with requests has seen this one by now, and it lasts as its stream does.
        if self._asked is not None:
            forget_parsed(self._asked)
            self._asked = None
        return self._chunks

    def close(self) -> None:
        self._chunks.close()
        self._connection.close()


class StreamResponse(Response):
    """Tells the connection which of the server's responses it belongs to."""

    connection: Connection

    def __call__(self, environ: Any, start_response: Any) -> Any:
        server = getattr(start_response, "__self__", None)
        if hasattr(server, "sent"):
            self.connection.response = server
        return super().__call__(environ, start_response)


def stream(components: Components, feed: Feed) -> Response:
    """200 and the event stream of `feed`."""
    waker = HubWaker() if cooperative() else ThreadWaker()
    direct = components.settings.direct_writes
    connection = Connection(
        socket_of(request.environ), waker.wake, components.stalls, may_be_direct=direct
    )
    frames = follow(feed, connection, waker, components.settings.heartbeat)
    in_context = cast("Generator[bytes]", stream_with_context(frames))
    # The server keeps `environ` to the end of the stream.
    chunks = Chunks(in_context, connection, request.environ.pop("werkzeug.request", None))
    # Past Werkzeug's own iterators, which would cost time for each event.
    response = StreamResponse(chunks, headers=sse.HEADERS, direct_passthrough=True)
    response.connection = connection
    return response


def forget_parsed(asked: Request) -> None:
    """Free what was read from a request: a whole history, and what headers and body were parsed to.

    Whoever asks later, as an application's teardown may, finds no body; the rest is parsed again.
    """
    fields = vars(asked)
    for name in tuple(fields):
        # Only what an application's own class of requests has not made its own.
        found = getattr(type(asked), name, None)
        if isinstance(found, cached_property) and found is getattr(Request, name, None):
            del fields[name]
    fields["_cached_data"], fields["_cached_json"] = b"", (None, None)


def whole(frames: bytes) -> Response:
    """200 and a stream that is complete already."""
    # No list: Werkzeug would tell its length, and a stream has none.
    return Response(iter((sse.RETRY + frames,)), headers=sse.HEADERS)
