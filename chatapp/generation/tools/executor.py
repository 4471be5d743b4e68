"""Runs the calls of one round concurrently.

Each call has its own thread and a time limit. A call that hangs does not hold the answer: under
gevent its greenlet is killed. A real thread can't be killed; it runs on, and its result is dropped.

Under gevent, no limit helps against a function that keeps the processor: it stops the whole worker,
and the log names it (`runtime/stall_watch`). Such work belongs in a real thread or another process.
"""

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ...runtime.stall_watch import killer

logger = logging.getLogger(__name__)

MAX_PARALLEL_CALLS: Final = 8
"""Calls of one round that run concurrently; the others wait."""
MAX_CALLS: Final = 32
"""Maximum calls of one round."""
MAX_ERROR_CHARS: Final = 1000
"""Maximum characters of an error."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """For whom a tool is called. A first parameter of this type gets it; the model can't."""

    owner: str
    answer_id: str
    conversation_id: str | None


@dataclass(frozen=True, slots=True)
class Call:
    """A call that the model asks for.

    :param arguments: JSON, as the model wrote it.
    :param extra: what else its server says of the call, for the next request.
    """

    id: str
    name: str
    arguments: str
    extra: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The outcome of a call: `error` is a sentence, or None if there is a `result`."""

    call: Call
    result: Any = None
    """A string, or anything that JSON can express."""
    content: str = ""
    """The same as text for the model."""
    error: str | None = None


def failed(call: Call, message: str) -> ToolResult:
    """A result that is an error."""
    return ToolResult(call, error=message[:MAX_ERROR_CHARS].encode("utf-8", "replace").decode())


class Cancelled(Exception):
    """`ToolRun.cancel` was called before all calls had ended."""


class Registry(Protocol):
    """Knows the registered functions."""

    def refusal(self, name: str) -> str | None:
        """Why a call of this tool can't run."""

    def timeout(self, name: str) -> float:
        """Seconds that a call of this tool may take."""

    def call(self, call: Call, context: ToolContext) -> ToolResult:
        """Run one call, here and now."""

    def hangs(self, name: str, by: int) -> None:
        """Count the threads that have outlived their call: one more or one less."""


@dataclass(slots=True)
class _Running:
    index: int
    call: Call
    deadline: float
    over: bool = False
    """Set by whoever is first: the thread with its result, or the waiter that gives up."""
    kill: Callable[[], None] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def close(self) -> bool:
        """Close it. Returns whether it was open until now."""
        with self.lock:
            was_open, self.over = not self.over, True
            return was_open


class ToolRun:
    """The calls of one round. `run` is for one thread, `cancel` for any other."""

    def __init__(self, tools: Registry, calls: Sequence[Call], context: ToolContext) -> None:
        self._tools = tools
        self._context = context
        self._calls = list(calls)
        self._waiting = deque(enumerate(self._calls[:MAX_CALLS]))
        self._running: list[_Running] = []
        self._results: dict[int, ToolResult] = {}
        self._news: queue.SimpleQueue[tuple[_Running, ToolResult] | None] = queue.SimpleQueue()

    def cancel(self) -> None:
        """Have `run` raise `Cancelled`; never waits."""
        self._news.put(None)

    def run(self, on_result: Callable[[ToolResult], None]) -> list[ToolResult]:
        """Run all calls; see `Tools.run`.

        :raises Cancelled: `cancel` was called; what still ran is abandoned.
        """
        try:
            for index, call in enumerate(self._calls[MAX_CALLS:], MAX_CALLS):
                too_many = f"Too many calls at the same time; {MAX_CALLS} are allowed."
                self._take(index, failed(call, too_many), on_result)
            while self._waiting or self._running:
                while self._waiting and len(self._running) < MAX_PARALLEL_CALLS:
                    self._start(*self._waiting.popleft(), on_result)
                if self._running:
                    self._await(on_result)
            return [self._results[index] for index in range(len(self._calls))]
        finally:
            for running in self._running:
                self._abandon(running)

    def _start(self, index: int, call: Call, on_result: Callable[[ToolResult], None]) -> None:
        if refusal := self._tools.refusal(call.name):
            self._take(index, failed(call, refusal), on_result)
            return
        running = _Running(index, call, time.monotonic() + self._tools.timeout(call.name))
        self._running.append(running)
        name = f"tool-{call.name}"
        threading.Thread(target=self._work, args=(running,), name=name, daemon=True).start()

    def _work(self, running: _Running) -> None:
        running.kill = killer()
        result = failed(running.call, "The tool failed.")
        try:
            if not running.over:
                result = self._tools.call(running.call, self._context)
        except BaseException:  # Also SystemExit, and the exception that killed this greenlet.
            if not running.over:
                logger.exception("tool %s failed", running.call.name)
        running.kill = None
        if running.close():
            self._news.put((running, result))
        else:
            self._tools.hangs(running.call.name, -1)

    def _await(self, on_result: Callable[[ToolResult], None]) -> None:
        """Take the next result, or end a call that has run for too long."""
        patience = min(each.deadline for each in self._running) - time.monotonic()
        with contextlib.suppress(queue.Empty):
            news = self._news.get(timeout=max(patience, 0.0))
            if news is None:
                raise Cancelled
            running, result = news
            self._running.remove(running)
            self._take(running.index, result, on_result)
        now = time.monotonic()
        for late in [each for each in self._running if each.deadline <= now]:
            if self._abandon(late):
                self._running.remove(late)
                seconds = self._tools.timeout(late.call.name)
                logger.warning("tool %s took longer than %g s", late.call.name, seconds)
                slow = f"The tool did not answer within {seconds:g} s."
                self._take(late.index, failed(late.call, slow), on_result)

    def _abandon(self, running: _Running) -> bool:
        """Give up a call. Returns whether it was still running; its result is then ignored."""
        self._tools.hangs(running.call.name, +1)
        if not running.close():
            self._tools.hangs(running.call.name, -1)
            return False
        if kill := running.kill:
            kill()
        return True

    def _take(
        self, index: int, result: ToolResult, on_result: Callable[[ToolResult], None]
    ) -> None:
        self._results[index] = result
        on_result(result)
