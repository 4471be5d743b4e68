"""Watches the application's code on a worker's one thread, and names what blocks it.

Under gevent, a function that computes for long, or waits in a library that is not cooperative,
stops all streams of its worker. `StallWatch` measures how long a function keeps the thread at a
stretch, without the time in which other greenlets run: `greenlet` reports each switch while a
watched function is running. With real threads nothing is measured.
"""

import functools
import logging
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import gevent
import greenlet  # type: ignore[import-untyped] # it has none

from .concurrency import cooperative

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

QUIET_SECONDS: Final = 60.0
"""Seconds between two warnings about the same function."""
MAX_NAMED_FUNCTIONS: Final = 1000


class StallWatch:
    """Calls the application's functions, and warns of those that block the worker.

    :param limit: seconds that a function may keep the thread.
    :param active: whether to measure at all.
    """

    def __init__(self, limit: float, active: Callable[[], bool] = cooperative) -> None:
        self._limit = limit
        self._active = active
        self._quiet_until: dict[str, float] = {}

    def call(self, function: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Result:
        """What `function` returns or raises."""
        if not self._active() or _switches.watches(gevent.getcurrent()):
            return function(*args, **kwargs)
        current = gevent.getcurrent()
        stretch = _switches.watch(current)
        try:
            return function(*args, **kwargs)
        finally:
            _switches.forget(current)
            stretch.pause()
            if stretch.longest > self._limit:
                self._warn(name_of(function), stretch.longest)

    def _warn(self, name: str, seconds: float) -> None:
        now = time.monotonic()
        if self._quiet_until.get(name, 0.0) > now:
            return
        if len(self._quiet_until) >= MAX_NAMED_FUNCTIONS:
            self._quiet_until.clear()
        self._quiet_until[name] = now + QUIET_SECONDS
        logger.warning(
            "%s held up all streams of this worker for %.2f s. Use a library that gevent makes "
            "cooperative, or do the work in a real thread: "
            "gevent.get_hub().threadpool.apply(function)",
            name,
            seconds,
        )


def name_of(function: Callable[..., Any]) -> str:
    """A function's place: `module:qualified.name`."""
    while isinstance(function, functools.partial):
        function = function.func
    kind = function if hasattr(function, "__qualname__") else type(function)
    return f"{kind.__module__}:{kind.__qualname__}"


def killer() -> Callable[[], None] | None:
    """A function that kills the caller's greenlet; None: real threads can't be killed."""
    if not cooperative():
        return None
    return functools.partial(gevent.kill, gevent.getcurrent())


class _Stretch:
    """Measures how long a greenlet keeps the thread."""

    __slots__ = ("longest", "since")

    def __init__(self) -> None:
        self.longest = 0.0
        self.since = time.perf_counter()

    def pause(self) -> None:
        self.longest = max(self.longest, time.perf_counter() - self.since)

    def resume(self) -> None:
        self.since = time.perf_counter()


class _Switches:
    """Follows the switches of this thread's greenlets while one of them is watched."""

    def __init__(self) -> None:
        self._stretches: dict[Any, _Stretch] = {}
        self._before: Any = None
        self._tracer = self._trace

    def watches(self, current: Any) -> bool:
        return current in self._stretches

    def watch(self, current: Any) -> _Stretch:
        if not self._stretches:
            self._before = greenlet.settrace(self._tracer)
        stretch = self._stretches[current] = _Stretch()
        return stretch

    def forget(self, current: Any) -> None:
        del self._stretches[current]
        # A tracer that was set since then stays: it calls ours, or has replaced it.
        if not self._stretches and greenlet.gettrace() is self._tracer:
            greenlet.settrace(self._before)

    def _trace(self, event: str, switch: Any) -> None:
        origin, target = switch
        if stretch := self._stretches.get(origin):
            stretch.pause()
        if stretch := self._stretches.get(target):
            stretch.resume()
        if self._before is not None:
            self._before(event, switch)


_switches = _Switches()
