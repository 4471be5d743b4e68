"""Writes wait for the storage in their order, and none is forgotten."""

import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.errors import StorageUnavailable
from chatapp.runtime import background
from chatapp.runtime.retry_queue import RetryQueue
from tests.support.hypothesis_settings import FEW
from tests.support.upstream import poll


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is tried again soon."""
    monkeypatch.setattr(background, "MIN_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(background, "MAX_PAUSE_SECONDS", 0.001)


class Storage:
    """Notes what is written, unless it is away."""

    def __init__(self) -> None:
        self.away = False
        self.written: list[int] = []
        self.tried = 0

    def write(self, number: int) -> Callable[[], None]:
        def write() -> None:
            self.tried += 1
            if self.away:
                raise StorageUnavailable("away")
            self.written.append(number)

        return write


def test_where_the_storage_is_there_a_write_is_done_at_once_by_the_caller() -> None:
    queue, threads = RetryQueue(), []
    assert queue.do(lambda: threads.append(threading.current_thread()))
    assert threads == [threading.current_thread()]
    assert (len(queue), queue.join(0)) == (0, True)


def test_a_fault_of_ours_is_the_callers() -> None:
    queue = RetryQueue()

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        queue.do(fail)
    assert len(queue) == 0


def test_while_the_storage_is_away_writes_wait_and_then_come_in_their_order() -> None:
    queue, storage = RetryQueue(), Storage()
    storage.away = True
    assert [queue.do(storage.write(number)) for number in range(5)] == [False] * 5
    assert (len(queue), queue.join(0), storage.written) == (5, False, [])
    storage.away = False
    assert queue.join(30)
    assert storage.written == [0, 1, 2, 3, 4]


def test_what_comes_while_others_wait_does_not_overtake_them() -> None:
    queue, storage = RetryQueue(), Storage()
    may_go_on, entered = threading.Event(), threading.Event()

    def slow() -> None:
        entered.set()
        assert may_go_on.wait(30)
        storage.written.append(0)

    queue.later(slow)
    assert entered.wait(30)
    assert not queue.do(storage.write(1))
    assert storage.written == []
    may_go_on.set()
    assert queue.join(30)
    assert storage.written == [0, 1]


def test_later_does_not_wait_for_the_write() -> None:
    queue, threads = RetryQueue(), []
    queue.later(lambda: threads.append(threading.current_thread()))
    assert queue.join(30)
    assert threads != [threading.current_thread()]


def test_a_write_with_a_fault_is_dropped_and_named_and_those_behind_it_are_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue, storage = RetryQueue(), Storage()

    def fail() -> None:
        raise ZeroDivisionError

    storage.away = True
    queue.do(storage.write(0))
    queue.later(fail)
    queue.later(storage.write(1))
    storage.away = False
    assert queue.join(30)
    assert storage.written == [0, 1]
    assert "ZeroDivisionError" in caplog.text
    assert "dropped" in caplog.text


@FEW
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_each_is_written_once_however_often_the_storage_goes(faults: list[int]) -> None:
    """`faults`: how many times each write fails before it is taken."""
    queue, written, left = RetryQueue(), [], list(faults)

    def write(number: int) -> Callable[[], None]:
        def attempt() -> None:
            if left[number]:
                left[number] -= 1
                raise StorageUnavailable("away")
            written.append(number)

        return attempt

    for number in range(len(faults)):
        queue.do(write(number))
    assert queue.join(30)
    assert written == list(range(len(faults)))
    assert len(queue) == 0


def test_threads_that_write_at_once_lose_nothing_and_each_keeps_its_order() -> None:
    queue, storage, start = RetryQueue(), Storage(), threading.Barrier(4)

    def write(thread: int) -> None:
        start.wait()
        for number in range(25):
            storage.away = number % 5 == thread
            queue.later(storage.write(thread * 100 + number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    storage.away = False
    assert queue.join(30)
    for thread in range(4):
        mine = [number for number in storage.written if number // 100 == thread]
        assert mine == [thread * 100 + number for number in range(25)]


def test_it_is_not_empty_before_the_last_write_is_done() -> None:
    queue, may_go_on = RetryQueue(), threading.Event()
    queue.later(lambda: may_go_on.wait(30))
    assert not queue.join(0)
    may_go_on.set()
    assert queue.join(30)
    poll(lambda: len(queue) == 0)
