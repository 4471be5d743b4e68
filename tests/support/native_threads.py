"""A pytest plugin for a patched process: no native thread of ours may touch what is gevent's.

`python -m gevent.monkey --module pytest -p tests.support.native_threads …`
"""

import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gevent import monkey
from gevent._hub_local import get_hub_if_exists
from gevent.thread import LockType

from chatapp.runtime import executor, native

touched: list[str] = []
calls = 0
"""How much was done in native threads."""


def note(what: str) -> None:
    touched.append(what + "\n" + "".join(traceback.format_stack(limit=14)[:-2]))


def spy(kind: type, name: str) -> None:
    """Note each call of a method from a native thread of ours."""
    original = getattr(kind, name)

    def spied(self: Any, *args: Any, **options: Any) -> Any:
        if native.in_native_thread():
            note(f"{kind.__name__}.{name}")
        return original(self, *args, **options)

    setattr(kind, name, spied)


def watched_call(self: executor.NativeThreadExecutor, work: Callable[[], Any]) -> Any:
    def watched() -> Any:
        global calls
        calls += 1
        try:
            return work()
        finally:
            if get_hub_if_exists() is not None:
                note("an event loop of its own")

    return call(self, watched)


assert monkey.is_module_patched("threading")
# The locks of `threading`, of logging, of imports, and what is made of them: RLock, Condition, …
for name in ("acquire", "__enter__"):
    spy(LockType, name)
for name in ("handle", "acquire"):
    spy(logging.Handler, name)
call = executor.NativeThreadExecutor.call
executor.NativeThreadExecutor.call = watched_call  # type: ignore[method-assign]
# Everybody who may log wants to.
logging.getLogger().setLevel(logging.DEBUG)
for noisy in ("sqlalchemy", "psycopg", "alembic"):
    logging.getLogger(noisy).setLevel(logging.DEBUG)


@pytest.fixture(autouse=True)
def nothing_patched_in_native_threads() -> Iterator[None]:
    touched.clear()
    yield
    assert not touched, touched[0]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"done in native threads: {calls}")
