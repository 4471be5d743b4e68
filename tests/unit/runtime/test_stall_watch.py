"""Whoever holds up a gevent worker is named, and nobody else."""

import functools
import logging
import time
from collections.abc import Callable
from typing import Any

import gevent
import greenlet
import pytest

from chatapp.runtime import stall_watch
from chatapp.runtime.stall_watch import StallWatch, name_of

pytestmark = pytest.mark.timeout(30)

LIMIT = 0.15
HERE = __name__


def watch() -> StallWatch:
    return StallWatch(LIMIT, active=lambda: True)


def hold(seconds: float = 1.4 * LIMIT) -> None:
    """Keep the thread, as a blocking call does."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def blocks() -> str:
    hold()
    return "held"


def blocks_after_a_wait() -> None:
    gevent.sleep(0)
    gevent.sleep(0)
    hold()


def blocks_before_a_wait() -> None:
    hold()
    gevent.sleep(0)
    gevent.sleep(0)


def blocks_and_fails() -> None:
    hold()
    raise LookupError("not found")


def waits() -> None:
    gevent.sleep(2 * LIMIT)


def names(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert all(each.levelno == logging.WARNING for each in caplog.records)
    return [each.getMessage().split(" ")[0].rpartition(":")[2] for each in caplog.records]


@pytest.mark.parametrize("function", [blocks, blocks_after_a_wait, blocks_before_a_wait])
def test_what_keeps_the_thread_at_a_stretch_is_named_with_what_to_do(
    function: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    watch().call(function)
    assert names(caplog) == [function.__name__]
    assert f"{HERE}:{function.__name__} held up all streams" in caplog.text
    assert "threadpool" in caplog.text


def test_what_is_returned_and_what_is_raised_comes_through(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert watch().call(blocks) == "held"
    with pytest.raises(LookupError, match="not found"):
        watch().call(blocks_and_fails)
    assert names(caplog) == ["blocks", "blocks_and_fails"]
    assert watch().call(dict, [("a", 1)], b=2) == {"a": 1, "b": 2}


def test_what_waits_and_lets_others_run_is_not_named(caplog: pytest.LogCaptureFixture) -> None:
    watch().call(waits)
    assert names(caplog) == []


def test_who_waits_while_another_one_blocks_is_not_blamed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither for a watched one nor for one that nobody watches."""
    watching = watch()
    patient = gevent.spawn(watching.call, waits)
    gevent.sleep(0)
    watching.call(blocks)
    gevent.spawn(hold).join(10)
    patient.get(timeout=10)
    assert names(caplog) == ["blocks"]


def test_within_a_minute_the_same_one_is_named_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = watch()
    for _ in range(3):
        watching.call(blocks)
    watching.call(blocks_after_a_wait)
    assert names(caplog) == ["blocks", "blocks_after_a_wait"]
    monkeypatch.setattr(stall_watch, "QUIET_SECONDS", 0.0)
    again = watch()
    again.call(blocks)
    again.call(blocks)
    assert names(caplog)[2:] == ["blocks", "blocks"]


def test_within_a_watched_call_the_outer_one_answers_for_the_inner(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watching = watch()

    def outer() -> None:
        watching.call(blocks)

    watching.call(outer)
    assert len(names(caplog)) == 1
    assert "outer" in caplog.text


def test_with_real_threads_nothing_is_measured(caplog: pytest.LogCaptureFixture) -> None:
    assert StallWatch(LIMIT).call(blocks) == "held"  # pytest itself is not patched
    assert names(caplog) == []


@pytest.mark.parametrize("function", [waits, blocks_and_fails])
def test_switches_are_followed_only_while_somebody_is_watched(function: Callable[[], Any]) -> None:
    watching = watch()
    seen: list[Any] = []

    def traced() -> None:
        seen.append(greenlet.gettrace())
        function()

    before = greenlet.gettrace()
    watched = gevent.spawn(watching.call, traced)
    watched.join(10)
    assert seen != [before]
    assert greenlet.gettrace() is before


def test_the_switches_also_reach_who_followed_them_before() -> None:
    events: list[str] = []
    before = greenlet.settrace(lambda event, _switch: events.append(event))
    try:
        watch().call(gevent.sleep, 0)
        count = len(events)
        gevent.sleep(0)
        assert 0 < count < len(events)
    finally:
        greenlet.settrace(before)


def test_a_watched_greenlet_that_is_killed_is_forgotten() -> None:
    before = greenlet.gettrace()
    watched = gevent.spawn(watch().call, gevent.sleep, 60)
    gevent.sleep(0)
    watched.kill()
    assert greenlet.gettrace() is before


class Callable_:  # noqa: N801 - a class that can be called, not the type
    def __call__(self) -> None: ...

    def method(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (blocks, "blocks"),
        (functools.partial(functools.partial(blocks), 1), "blocks"),
        (Callable_(), "Callable_"),
        (Callable_().method, "Callable_.method"),
    ],
)
def test_a_function_is_named_so_that_it_is_found(function: Callable[..., Any], name: str) -> None:
    assert name_of(function) == f"{HERE}:{name}"


def test_outside_gevent_nothing_can_be_killed() -> None:
    assert stall_watch.killer() is None
