"""A feed as a Flask response."""

from flask import Response, request, stream_with_context

from .. import sse
from ..connections import Connection, cooperative, socket_of
from ..following import Bell, Feed, follow
from ..hub import HubBell
from ..parts import Parts


def stream(parts: Parts, feed: Feed) -> Response:
    """200 and the event stream of `feed`.

    What the response holds on to is released when the server closes it, also where the generator
    never began: after HEAD, or when the client went away first.
    """
    bell = HubBell() if cooperative() else Bell()
    connection = Connection(socket_of(request.environ), bell.ring, parts.stalls)
    chunks = follow(feed, connection, bell, parts.settings.heartbeat)
    response = Response(stream_with_context(chunks), headers=sse.HEADERS)
    response.call_on_close(connection.close)
    return response


def whole(frames: bytes) -> Response:
    """200 and a stream that is complete already."""
    return Response(sse.RETRY + frames, headers=sse.HEADERS)
