"""Driving gevent's hub from a test."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.event
import gevent.socket
import pytest

PATIENT = 60.0
"""Seconds that no test waits out: what ends before was woken."""


def until(true: Callable[[], Any]) -> None:
    """Let the other greenlets run until it is true."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        gevent.sleep(0.001)


def in_hub(call: Callable[[], None]) -> None:
    """Have gevent's hub call it, and return when it has."""
    done = gevent.event.Event()
    gevent.get_hub().loop.run_callback(lambda: (call(), done.set()))
    assert done.wait(10)


def in_greenlet(call: Callable[[], None]) -> None:
    gevent.spawn(call).get(timeout=10)


@pytest.fixture
def pair() -> Iterator[tuple[Any, Any]]:
    here, there = gevent.socket.socketpair()
    with here, there:
        yield here, there
