"""Calls run beside each other; none of them keeps the answer longer than it may."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from chatapp.generation.tools.executor import (
    MAX_CALLS,
    MAX_PARALLEL_CALLS,
    Call,
    Cancelled,
    ToolContext,
    ToolResult,
)
from chatapp.generation.tools.registry import MAX_HANGING_THREADS, Tools
from chatapp.runtime.stall_watch import StallWatch
from tests.support.upstream import poll

CONTEXT = ToolContext("ann", "answer", None)


@pytest.fixture
def tools() -> Tools:
    return Tools(30.0, 1000, StallWatch(9))


def call(name: str, arguments: str = "{}", call_id: str = "1") -> Call:
    return Call(call_id, name, arguments)


def one(tools: Tools, name: str, arguments: str = "{}") -> ToolResult:
    (result,) = tools.run([call(name, arguments)], CONTEXT)
    return result


def add(x: int, y: int = 2) -> int:
    """Add."""
    return x + y


class TestTogether:
    def test_calls_run_beside_each_other_and_come_as_they_finish(self, tools: Tools) -> None:
        turns = [threading.Event() for _ in range(3)]

        def step(n: int) -> int:
            """Wait for the next step."""
            assert n == 2 or turns[n + 1].wait(20)
            turns[n].set()
            return n

        tools.register(step)
        seen: list[Any] = []
        calls = [call("step", f'{{"n": {n}}}', str(n)) for n in range(3)]
        threads: set[threading.Thread] = set()

        def note(result: ToolResult) -> None:
            seen.append(result.result)
            threads.add(threading.current_thread())

        results = tools.run(calls, CONTEXT, note)
        assert [each.result for each in results] == [0, 1, 2]
        assert sorted(seen) == [0, 1, 2]
        assert threads == {threading.current_thread()}

    def test_no_more_run_at_once_than_may_and_calls_beyond_the_most_are_refused(
        self, tools: Tools
    ) -> None:
        lock, counts = threading.Lock(), [0, 0]

        def busy() -> None:
            """Be busy."""
            with lock:
                counts[0] += 1
                counts[1] = max(counts)
            threading.Event().wait(0.001)
            with lock:
                counts[0] -= 1

        tools.register(busy)
        same = call("busy")
        results = tools.run([same] * (MAX_CALLS + 2), CONTEXT)
        assert [each.error is None for each in results] == [True] * MAX_CALLS + [False] * 2
        assert str(MAX_CALLS) in str(results[-1].error)
        assert counts[1] <= MAX_PARALLEL_CALLS

    def test_what_hangs_does_not_keep_the_others_and_its_late_result_is_dropped(
        self, tools: Tools, caplog: pytest.LogCaptureFixture
    ) -> None:
        may_end, ended = threading.Event(), threading.Event()

        def hang() -> str:
            """Hang."""
            may_end.wait(30)
            ended.set()
            return "late"

        tools.register(hang, timeout=0.05)
        tools.register(add)
        seen: list[ToolResult] = []
        results = tools.run([call("hang"), call("add", '{"x": 1}')], CONTEXT, seen.append)
        assert [each.error for each in results] == ["The tool did not answer within 0.05 s.", None]
        assert [each.call.name for each in seen] == ["add", "hang"]
        assert "tool hang took longer" in caplog.text
        may_end.set()
        assert ended.wait(10)
        assert len(seen) == 2

    def test_a_tool_that_hangs_again_and_again_is_refused_until_its_threads_end(
        self, tools: Tools
    ) -> None:
        may_end = threading.Event()

        def hang(wait: bool = True) -> str:
            """Hang."""
            assert not wait or may_end.wait(30)
            return "done"

        tools.register(hang, timeout=0.02)
        calls = [call("hang")] * MAX_HANGING_THREADS
        assert all("within" in str(each.error) for each in tools.run(calls, CONTEXT))
        assert "at the moment" in str(one(tools, "hang", '{"wait": false}').error)
        may_end.set()
        poll(lambda: "at the moment" not in str(one(tools, "hang", '{"wait": false}').error))

    def test_cancelling_ends_the_wait_at_once(self, tools: Tools) -> None:
        may_end, running = threading.Event(), threading.Event()

        def hang() -> None:
            """Hang."""
            running.set()
            may_end.wait(30)

        tools.register(hang)
        run = tools.prepare([call("hang")], CONTEXT)
        threading.Thread(target=lambda: (running.wait(30), run.cancel()), daemon=True).start()
        with pytest.raises(Cancelled):
            run.run(lambda _result: None)
        assert not may_end.is_set()
        may_end.set()

    def test_cancelled_before_it_began_it_waits_for_nothing(self, tools: Tools) -> None:
        def hang() -> None:
            """Hang."""
            threading.Event().wait(30)

        tools.register(hang)
        run = tools.prepare([call("hang")], CONTEXT)
        run.cancel()
        with pytest.raises(Cancelled):
            run.run(lambda _result: None)

    def test_each_call_runs_within_what_surrounds_it(self) -> None:
        inside = threading.local()

        @contextlib.contextmanager
        def surround() -> Iterator[None]:
            inside.value = "here"
            yield
            inside.value = None

        def where() -> str:
            """Where."""
            return str(inside.value)

        tools = Tools(30.0, 1000, StallWatch(9), surround)
        tools.register(where)
        assert one(tools, "where").result == "here"


UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent, sys, threading, time
from chatapp.runtime.stall_watch import StallWatch
from chatapp.generation.tools.registry import Tools
from chatapp.generation.tools.executor import Call, ToolContext

ended = []

def hang() -> str:
    "Hang."
    try:
        time.sleep(60)
    finally:
        ended.append("killed")

def spin() -> str:
    "Keep the processor."
    end = time.perf_counter() + 0.2
    while time.perf_counter() < end:
        pass
    return "spun"

def quick() -> str:
    "Be quick."
    return "quick"

tools = Tools(30.0, 1000, StallWatch(0.1))
tools.register(hang, timeout=0.1)
tools.register(spin)
tools.register(quick)
calls = [Call(str(n), name, "{}") for n, name in enumerate(["hang", "quick", "spin", "hang"])]
results = tools.run(calls, ToolContext("ann", "a", None))
print([each.error or each.result for each in results])
deadline = time.monotonic() + 10
while len(ended) < 2 and time.monotonic() < deadline:
    gevent.sleep(0.01)
print(ended, threading.active_count())
"""


@pytest.mark.processes
def test_under_gevent_what_hangs_is_killed_and_what_spins_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", UNDER_GEVENT],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    late = "The tool did not answer within 0.1 s."
    expected = f"{[late, 'quick', 'spun', late]}\n['killed', 'killed'] 1\n"
    assert done.stdout == expected, done.stderr
    assert "__main__:spin held up all streams" in done.stderr
    assert "Traceback" not in done.stderr
