"""A feed as a Flask response."""

from collections.abc import Generator, Iterator
from typing import cast

from flask import Response, request, stream_with_context

from .. import sse
from ..connections import Connection, cooperative, socket_of
from ..following import Bell, Feed, follow
from ..hub import HubBell
from ..parts import Parts


class Chunks:
    """What the server iterates over, and closes however the response ends.

    Also where the iteration never began: after HEAD, or when the client went away first.
    """

    def __init__(self, chunks: Generator[bytes], connection: Connection) -> None:
        self._chunks = chunks
        self._connection = connection

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        self._chunks.close()
        self._connection.close()


def stream(parts: Parts, feed: Feed) -> Response:
    """200 and the event stream of `feed`."""
    bell = HubBell() if cooperative() else Bell()
    connection = Connection(socket_of(request.environ), bell.ring, parts.stalls)
    frames = follow(feed, connection, bell, parts.settings.heartbeat)
    chunks = Chunks(cast("Generator[bytes]", stream_with_context(frames)), connection)
    # The server keeps `environ` to the end of the stream: without its request, and so the body.
    request.environ.pop("werkzeug.request", None)
    # Past Werkzeug's own iterators, which would cost time for each event.
    return Response(chunks, headers=sse.HEADERS, direct_passthrough=True)


def whole(frames: bytes) -> Response:
    """200 and a stream that is complete already."""
    return Response(sse.RETRY + frames, headers=sse.HEADERS)
