"""Work beside the requests: one call after the other, again after every fault."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from chatapp.errors import StorageUnavailable
from chatapp.runtime import background
from chatapp.runtime.background import BackgroundTask
from tests.support.upstream import poll


class Work:
    """Counts its calls; `script` says what each does, its last entry what all later ones do."""

    def __init__(self, *script: float | Exception | None) -> None:
        self.script = list(script)
        self.calls = 0
        self.threads: set[threading.Thread] = set()
        self.overlapped = False
        self._busy = threading.Lock()

    def __call__(self) -> float | None:
        self.overlapped |= not self._busy.acquire(blocking=False)
        try:
            self.threads.add(threading.current_thread())
            step = self.script[min(self.calls, len(self.script) - 1)]
            self.calls += 1
            if isinstance(step, Exception):
                raise step
            return step
        finally:
            self._busy.release()


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Work], BackgroundTask]]:
    """A `BackgroundTask` that is ended with the test; its pauses are short."""
    monkeypatch.setattr(background, "MIN_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(background, "MAX_PAUSE_SECONDS", 0.002)
    made: list[BackgroundTask] = []

    def make(work: Work) -> BackgroundTask:
        made.append(BackgroundTask("some work", work))
        return made[-1]

    yield make
    for each in made:
        each.end(30)


AWAY = StorageUnavailable("The storage is away.")


def test_nothing_is_called_before_the_first_wake(begin: Callable[[Work], BackgroundTask]) -> None:
    work = Work(None)
    made = begin(work)
    before = work.calls
    made.wake()
    poll(lambda: work.calls >= 1)
    assert before == 0


def test_each_wake_is_followed_by_a_call(begin: Callable[[Work], BackgroundTask]) -> None:
    work = Work(None)
    made = begin(work)
    for number in range(1, 20):
        made.wake()
        poll(lambda number=number: work.calls >= number)
    assert len(work.threads) == 1


def test_a_wake_during_a_call_is_not_lost(begin: Callable[[Work], BackgroundTask]) -> None:
    entered, may_go_on = threading.Event(), threading.Event()
    calls = []

    def work() -> float | None:
        calls.append(1)
        entered.set()
        assert may_go_on.wait(30)
        return None

    made = begin(work)  # type: ignore[arg-type]
    made.wake()
    assert entered.wait(30)
    made.wake()
    may_go_on.set()
    poll(lambda: len(calls) >= 2)


def test_work_that_names_a_pause_is_called_again_by_itself(
    begin: Callable[[Work], BackgroundTask],
) -> None:
    work = Work(0.0, 0.001, 0.001, None)
    begin(work).begin()
    poll(lambda: work.calls == 4)


def test_many_wakers_start_one_thread_and_no_two_calls_overlap(
    begin: Callable[[Work], BackgroundTask],
) -> None:
    work = Work(None)
    made, start = begin(work), threading.Barrier(8)

    def wake() -> None:
        start.wait()
        for _ in range(50):
            made.wake()

    threads = [threading.Thread(target=wake) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    poll(lambda: work.calls >= 1)
    made.end(30)
    assert len(work.threads) == 1
    assert not work.overlapped


def test_a_storage_that_is_away_is_named_once_and_once_more_when_it_is_back(
    begin: Callable[[Work], BackgroundTask], caplog: pytest.LogCaptureFixture
) -> None:
    work = Work(AWAY, AWAY, AWAY, None)
    made = begin(work)
    made.wake()
    poll(lambda: work.calls >= 4 and not made.failures)
    texts = [record.getMessage() for record in caplog.records]
    assert [text for text in texts if "The storage is away." in text] == texts[:1]
    assert texts[1:] == ["some work: works again"]
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_a_fault_is_logged_with_its_traceback_and_tried_again(
    begin: Callable[[Work], BackgroundTask], caplog: pytest.LogCaptureFixture
) -> None:
    work = Work(ZeroDivisionError("ours"), ZeroDivisionError("ours"), None)
    made = begin(work)
    made.wake()
    poll(lambda: work.calls >= 3 and not made.failures)
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert "ZeroDivisionError" in caplog.text


def test_failures_are_counted_while_it_fails(begin: Callable[[Work], BackgroundTask]) -> None:
    made = begin(Work(AWAY))
    made.wake()
    poll(lambda: made.failures >= 3)


def test_the_pauses_grow_to_their_most_and_no_wake_makes_them_shorter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clock is ours: a wait that is woken at once takes 0.01 s of it."""
    work, clock = Work(*[AWAY] * 6, None), [0.0]
    called_at: list[float] = []
    made = BackgroundTask("some work", lambda: called_at.append(clock[0]) or work())  # type: ignore[func-returns-value]
    monkeypatch.setattr(background.time, "monotonic", lambda: clock[0])

    class Woken:
        def wake(self) -> None:
            pass

        def wait(self, timeout: float) -> bool:
            if timeout == background.IDLE:
                made.end(0)
            clock[0] += min(timeout, 0.01)
            return True

    made._waker = Woken()  # type: ignore[assignment]
    made._run()
    pauses = [round(b - a, 2) for a, b in pairwise(called_at)]
    assert pauses == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]


def test_after_the_end_nothing_is_called_and_a_call_under_way_is_waited_for(
    begin: Callable[[Work], BackgroundTask],
) -> None:
    entered, may_go_on, calls = threading.Event(), threading.Event(), []

    def work() -> float | None:
        entered.set()
        assert may_go_on.wait(30)
        calls.append(1)
        return 0.0

    made = begin(work)  # type: ignore[arg-type]
    made.wake()
    assert entered.wait(30)
    threading.Timer(0.01, may_go_on.set).start()
    made.end(30)
    assert calls == [1]
    made.wake()
    made.begin()
    assert calls == [1]


def test_one_that_fails_ends_without_waiting_for_its_pause(
    begin: Callable[[Work], BackgroundTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "MIN_PAUSE_SECONDS", 3600.0)
    monkeypatch.setattr(background, "MAX_PAUSE_SECONDS", 3600.0)
    work = Work(AWAY)
    made = begin(work)
    made.wake()
    poll(lambda: made.failures == 1)
    made.end(30)
    assert all(not thread.is_alive() for thread in work.threads)


def test_a_forked_worker_gets_its_own_thread(begin: Callable[[Work], BackgroundTask]) -> None:
    work = Work(None)
    made = begin(work)
    made.wake()
    poll(lambda: work.calls)
    child = os.fork()
    if not child:
        ok = False
        try:
            work.calls = 0
            made.wake()
            poll(lambda: work.calls)
            ok = True
        finally:
            os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
