"""Asking the fake upstream by either transport, and reading its answer to the end."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from chatapp.answers.events import EventType
from chatapp.errors import ChatAppError
from chatapp.settings import Settings
from chatapp.upstream.client import Upstream
from chatapp.upstream.completion_stream import CompletionStream
from chatapp.upstream.transport import Cancellation, FastTransport, StockTransport
from tests.support.upstream import FakeUpstream

HISTORY = [{"role": "user", "content": "Hi 😀\u2028"}]
Connect = Callable[..., Upstream]


class NoLocalModel:
    """The embedded model must not be needed here."""

    def ensure(self, timeout: float = 30.0) -> Any:  # noqa: ARG002 - the protocol has it
        raise AssertionError("the local model was asked for")


@pytest.fixture(params=[StockTransport, FastTransport])
def connect(request: pytest.FixtureRequest, upstream: FakeUpstream) -> Iterator[Connect]:
    """Makes the way to the fake upstream; arguments are options, and what reads its bodies."""
    transports: list[httpx2.BaseTransport] = []

    def transport() -> httpx2.BaseTransport:
        transports.append(request.param())
        return transports[-1]

    def make(read_body: Callable[[], Any] = lambda: None, **options: Any) -> Upstream:
        settings = Settings(**{"api_key": "sk-secret", "base_url": upstream.url, **options})
        return Upstream(settings, transport, NoLocalModel(), None, read_body)

    yield make
    for each in transports:
        each.close()


def ask(upstream: Upstream, **options: Any) -> CompletionStream:
    return upstream.open("m", HISTORY, options, Cancellation())


def answer_of(upstream: Upstream) -> tuple[list[tuple[EventType, str]], CompletionStream]:
    """All pieces, joined where they are neighbours of one kind, and the stream behind them."""
    stream = ask(upstream)
    joined: list[tuple[EventType, str]] = []
    try:
        for kind, text in stream:
            if joined and joined[-1][0] is kind:
                text = joined.pop()[1] + text
            joined.append((kind, text))
    finally:
        stream.close()
    return joined, stream


def failure(upstream: Upstream, opening: bool = False) -> ChatAppError:
    with pytest.raises(ChatAppError) as caught:
        ask(upstream) if opening else answer_of(upstream)
    assert "sk-secret" not in caught.value.message
    return caught.value
