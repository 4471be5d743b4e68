"""Foreign code on a worker's one thread: what holds all streams up is named, what hangs is ended.

Under gevent a function that computes for long, or waits by a library that gevent has not made
cooperative, stops every stream of its worker. `StallWatch` measures for how long a function keeps
the thread at a stretch, without the time in which other greenlets run: `greenlet` tells of each
switch, as long as a watched function is under way. With real threads nothing is measured.
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
"""How long the log is silent about a function that it has named."""
MAX_NAMED_FUNCTIONS: Final = 1000


class StallWatch:
    """Calls the functions of the application, and warns of those that hold up the worker.

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
            "%s held up all streams of this worker for %.2f s. Let it wait by what gevent makes "
            "cooperative, or have a real thread do the work: "
            "gevent.get_hub().threadpool.apply(function)",
            name,
            seconds,
        )


def name_of(function: Callable[..., Any]) -> str:
    """Where a function is found: `module:qualified.name`."""
    while isinstance(function, functools.partial):
        function = function.func
    kind = function if hasattr(function, "__qualname__") else type(function)
    return f"{kind.__module__}:{kind.__qualname__}"


def killer() -> Callable[[], None] | None:
    """What ends the caller's greenlet from outside; None where threads are real and can't be."""
    if not cooperative():
        return None
    return functools.partial(gevent.kill, gevent.getcurrent())


class _Stretch:
    """The time for which a greenlet keeps the thread."""

    __slots__ = ("longest", "since")

    def __init__(self) -> None:
        self.longest = 0.0
        self.since = time.perf_counter()

    def pause(self) -> None:
        self.longest = max(self.longest, time.perf_counter() - self.since)

    def resume(self) -> None:
        self.since = time.perf_counter()


class _Switches:
    """Follows the switches of this thread's greenlets, as long as one of them is watched."""

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
        # Somebody else's tracer, set meanwhile, stays: it calls ours, or has replaced it.
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
