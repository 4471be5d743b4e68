"""What native threads may use in a process that gevent has patched.

A lock, queue or event of gevent's must not be shared with a native thread: of two threads that want
one, the second may never wake up. The same goes for logging, whose handlers have such locks. So a
native thread uses primitives of its own, and hands everything else to the greenlet that waits for
it: results, errors, and what there is to log.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any, Final

from gevent import monkey

Lock: Final[Any] = monkey.get_original("threading", "Lock")
sleep: Final[Callable[[float], None]] = monkey.get_original("time", "sleep")
poll: Final[Any] = monkey.get_original("select", "poll")
"""gevent's would give each thread an event loop."""
_start_thread: Final = monkey.get_original("_thread", "start_new_thread")
_here: Final[Any] = monkey.get_original("threading", "local")()


def in_native_thread() -> bool:
    """Whether this is a native thread beside the one of the greenlets."""
    return getattr(_here, "native", False)


def enter_native_thread() -> None:
    """Mark this thread as a native one."""
    _here.native = True


def start_thread(work: Callable[[], None]) -> None:
    """Do it in a native thread that the end of the process does not wait for."""

    def run() -> None:
        enter_native_thread()
        work()

    _start_thread(run, ())


def mute(*packages: str) -> None:
    """Have the loggers of these packages, as far as they exist, say nothing in native threads."""
    for name, logger in tuple(logging.root.manager.loggerDict.items()):
        if name.partition(".")[0] in packages and isinstance(logger, logging.Logger):
            vars(logger)["isEnabledFor"] = functools.partial(_is_enabled, logger)


def _is_enabled(logger: logging.Logger, level: int) -> bool:
    return not in_native_thread() and type(logger).isEnabledFor(logger, level)
