"""A client with `FastTransport`, and an upstream that always replies the same."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from chatapp.upstream.transport import FastTransport
from tests.support.raw_upstreams import WAIT, Peer, client_context

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def make_client(**options: Any) -> httpx2.Client:
    transport = FastTransport(ssl_context=client_context(), **options)
    return httpx2.Client(transport=transport, timeout=WAIT)


@pytest.fixture
def client() -> Iterator[httpx2.Client]:
    with make_client() as client:
        yield client


def always(*parts: bytes) -> Callable[[Peer], None]:
    """A handler: for each request send these parts."""

    def handle(peer: Peer) -> None:
        while peer.read_request():
            peer.send(*parts)

    return handle
