"""Bounds what an upstream may do with a response, whichever transport carries it.

Requests stay on the origin that was asked first, for each carries the key. A response comes
uncompressed, as was asked for: what unpacks a stream has no bound. A refusal is read here, up to a
size and a time; whoever handles it finds it whole.
"""

from typing import Final

import httpx2

from .body import RawBody

MAX_REFUSAL_BYTES: Final = 64 << 10
REFUSAL_SECONDS: Final = 10.0
"""How long the body of a refusal or of a redirect may take."""
FRAMING: Final = (b"content-encoding", b"content-length", b"transfer-encoding")
_ORIGIN: Final = "chatapp.origin"
"""Of the first request, in the extensions, which redirects share with it."""


class UnwantedResponse(httpx2.TransportError):
    """The upstream's response is not one that was asked for."""


class RedirectedAway(httpx2.TransportError):
    """A redirect leads to another origin."""


class GuardedTransport(httpx2.BaseTransport):
    """Another transport, with these bounds."""

    def __init__(self, transport: httpx2.BaseTransport) -> None:
        self._transport = transport

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """As the other one's.

        :raises RedirectedAway: the request is not for the origin of the first one.
        :raises UnwantedResponse: the response is compressed.
        """
        origin = request.extensions.setdefault(_ORIGIN, _origin(request.url))
        if _origin(request.url) != origin:
            raise RedirectedAway(
                f"a redirect from {origin} to {_origin(request.url)}, which would get the key; "
                "if that is right, set it as the upstream's address"
            )
        response = self._transport.handle_request(request)
        coding = response.headers.get("content-encoding", "identity").strip().lower()
        if response.is_success:
            if coding not in ("", "identity"):
                response.close()
                raise UnwantedResponse(f"the response is compressed, by {coding[:40]!r}")
            return response
        return _whole(response, compressed=coding not in ("", "identity"))

    def close(self) -> None:
        self._transport.close()


def _origin(url: httpx2.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def _whole(response: httpx2.Response, *, compressed: bool) -> httpx2.Response:
    """The response with as much of its body as is read of a refusal; none of a compressed one."""
    body: RawBody = response.extensions["raw_body"]
    try:
        content = body.collect(MAX_REFUSAL_BYTES, REFUSAL_SECONDS)
    finally:
        body.close()
    headers = [each for each in response.headers.raw if each[0].lower() not in FRAMING]
    return httpx2.Response(
        response.status_code,
        headers=headers,
        content=b"" if compressed else content,
        extensions={k: v for k, v in response.extensions.items() if k != "raw_body"},
    )
