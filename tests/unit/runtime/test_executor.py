"""Blocking work is done so many at once, and what it returns or raises comes back to the caller."""

import threading

import gevent
import pytest

from chatapp.errors import StorageUnavailable
from chatapp.runtime import executor as module
from chatapp.runtime.executor import BoundedInlineExecutor, Executor, NativeThreadExecutor, executor
from tests.support.event_loop import until
from tests.support.upstream import poll

KINDS = pytest.mark.parametrize("kind", [BoundedInlineExecutor, NativeThreadExecutor])


@KINDS
def test_what_the_work_returns_or_raises_comes_back(kind: type[Executor]) -> None:
    pool = kind(1)  # type: ignore[call-arg]

    def fails() -> None:
        raise LookupError("not there")

    assert pool.call(lambda: 7) == 7
    with pytest.raises(LookupError, match="not there"):
        pool.call(fails)
    assert pool.call(lambda: 8) == 8, "a fault leaves nobody's place taken"


def test_unpatched_the_caller_does_it_and_as_many_as_may_at_the_same_time() -> None:
    pool, all_in, threads = BoundedInlineExecutor(2), threading.Barrier(3), []

    def work() -> None:
        threads.append(threading.get_ident())
        all_in.wait(30)

    callers = [threading.Thread(target=pool.call, args=(work,)) for _ in range(2)]
    for caller in callers:
        caller.start()
    all_in.wait(30)
    for caller in callers:
        caller.join(30)
    assert sorted(threads) == sorted(caller.ident for caller in callers)


def test_who_waits_too_long_for_a_turn_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.01)
    pool, began, may_end = BoundedInlineExecutor(1), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        may_end.wait(30)

    holder = threading.Thread(target=pool.call, args=(work,))
    holder.start()
    assert began.wait(30)
    with pytest.raises(StorageUnavailable):
        pool.call(lambda: None)
    may_end.set()
    holder.join(30)
    assert pool.call(lambda: "free again") == "free again"


def test_native_threads_let_the_other_greenlets_go_on_meanwhile() -> None:
    pool, may_end = NativeThreadExecutor(1), threading.Event()
    waits = gevent.spawn(pool.call, lambda: (may_end.wait(30), threading.get_ident())[1])
    gevent.sleep(0)
    gevent.spawn(may_end.set).join(10)
    assert waits.get(timeout=10) != threading.get_ident()


def test_work_goes_on_when_its_greenlet_is_killed() -> None:
    pool, began, may_end, ended = NativeThreadExecutor(1), [], threading.Event(), []

    def work() -> None:
        began.append(1)
        may_end.wait(30)
        ended.append(1)

    waits = gevent.spawn(pool.call, work)
    until(lambda: began)
    waits.kill(timeout=10)
    may_end.set()
    poll(lambda: ended)


def test_which_kind_it_is_depends_on_whether_threads_are_greenlets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for patched, kind in ((False, BoundedInlineExecutor), (True, NativeThreadExecutor)):
        monkeypatch.setattr(module.monkey, "is_module_patched", lambda _, it=patched: it)
        assert isinstance(executor(1), kind)
