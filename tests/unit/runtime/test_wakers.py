"""A thread waits for news, and no waking is lost or counted twice."""

import threading

from chatapp.runtime.wakers import ThreadWaker


def test_a_wake_while_nobody_waits_ends_the_next_wait_once() -> None:
    waker = ThreadWaker()
    waker.wake()
    waker.wake()
    assert waker.wait(0)
    assert not waker.wait(0)


def test_it_wakes_who_waits_in_another_thread() -> None:
    waker, woken = ThreadWaker(), threading.Event()

    def wait() -> None:
        if waker.wait(60):
            woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    waker.wake()
    thread.join(60)
    assert woken.is_set()


def test_a_negative_time_is_no_wait() -> None:
    assert not ThreadWaker().wait(-5)


def test_many_threads_may_wake_it_concurrently() -> None:
    waker, faults = ThreadWaker(), []

    def wake() -> None:
        try:
            for _ in range(500):
                waker.wake()
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=wake) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        waker.wait(0.001)
    assert faults == []
