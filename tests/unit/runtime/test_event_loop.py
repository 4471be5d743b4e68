"""Waits in gevent's hub: nobody oversleeps, nothing is lost, and news need no waking."""

import time

import gevent
import gevent.event
import pytest

from chatapp.runtime.event_loop import HubWaker, Sweeper, write_batch
from tests.support.event_loop import PATIENT, in_greenlet, in_hub, until

pytestmark = pytest.mark.timeout(30)

FROM_ANYWHERE = pytest.mark.parametrize("call_in", [in_hub, in_greenlet])


class TestHubWaker:
    @FROM_ANYWHERE
    def test_a_waking_before_the_sleep_ends_it_at_once(self, call_in):
        waker = HubWaker()
        call_in(waker.wake)
        call_in(waker.wake)
        assert waker.wait(PATIENT)
        assert not waker.wait(0), "two wakings nobody waited for are one"

    @FROM_ANYWHERE
    def test_a_waking_during_the_sleep_ends_it(self, call_in):
        waker = HubWaker()
        sleeper = gevent.spawn(waker.wait, PATIENT)
        until(lambda: waker.asleep)
        call_in(waker.wake)
        assert sleeper.get(timeout=10) is True
        assert not waker.asleep

    def test_in_the_hub_the_sleeper_has_run_before_the_waking_returns(self):
        waker, order = HubWaker(), []
        sleeper = gevent.spawn(lambda: (waker.wait(PATIENT), order.append("sleeper")))
        until(lambda: waker.asleep)
        in_hub(lambda: (waker.wake(), order.append("caller")))
        sleeper.join(10)
        assert order == ["sleeper", "caller"]

    def test_a_waking_between_two_sleeps_is_kept(self):
        waker, woken = HubWaker(), []

        def sleep_twice() -> None:
            woken.append(waker.wait(PATIENT))
            waker.wake()
            woken.append(waker.wait(PATIENT))

        sleeper = gevent.spawn(sleep_twice)
        until(lambda: waker.asleep)
        in_hub(waker.wake)
        sleeper.get(timeout=10)
        assert woken == [True, True]

    @pytest.mark.parametrize("wake", ["wake", "time_out"])
    def test_wakings_that_come_together_end_one_sleep(self, wake):
        """The next one lasts until it is woken."""
        waker, woken = HubWaker(), []

        def sleep_twice() -> None:
            woken.append(waker.wait(PATIENT))
            woken.append(waker.wait(PATIENT))

        sleeper = gevent.spawn(sleep_twice)
        until(lambda: waker.asleep)
        gevent.get_hub().loop.run_callback(getattr(waker, wake))
        waker.time_out()
        waker.time_out()
        until(lambda: woken)
        in_hub(lambda: None)
        waker.wake()
        sleeper.get(timeout=10)
        assert woken == [wake == "wake", True]

    def test_no_news_is_lost_between_many_writers_and_one_reader(self):
        waker, notify_data, seen = HubWaker(), [], []

        def write(name: int) -> None:
            for number in range(50):
                notify_data.append((name, number))
                waker.wake()
                gevent.sleep(0)

        def read() -> None:
            while len(seen) < 200:
                seen.extend(notify_data[len(seen) :])
                if len(seen) < 200:
                    assert waker.wait(PATIENT)

        reader = gevent.spawn(read)
        gevent.joinall([gevent.spawn(write, name) for name in range(4)], timeout=10)
        reader.get(timeout=10)
        assert seen == notify_data

    def test_a_sleep_without_a_waking_ends_by_itself_and_the_waker_still_works(self):
        waker = HubWaker()
        assert gevent.spawn(waker.wait, 0.01).get(timeout=10) is False
        again = gevent.spawn(waker.wait, PATIENT)
        until(lambda: waker.asleep)
        waker.wake()
        assert again.get(timeout=10) is True

    def test_a_waking_that_comes_with_the_timeout_counts(self):
        waker = HubWaker()
        sleeper = gevent.spawn(waker.wait, PATIENT)
        until(lambda: waker.asleep)
        waker.time_out()
        waker.wake()
        assert sleeper.get(timeout=10) is True

    @pytest.mark.parametrize("wake", ["wake", "time_out"])
    @FROM_ANYWHERE
    def test_a_killed_sleeper_is_not_switched_to(self, wake, call_in):
        """Neither by a waking that was scheduled before, nor by one that comes later."""
        waker, last_wish = HubWaker(), gevent.event.Event()

        def sleep() -> str:
            try:
                waker.wait(PATIENT)
            except gevent.GreenletExit:
                last_wish.wait()  # Raises when it is switched to by anything else.
                return "waited to the end"
            return "was not killed"

        sleeper = gevent.spawn(sleep)
        until(lambda: waker.asleep)
        sleeper.kill(block=False)  # Delivered first: the hub keeps the order.
        getattr(waker, wake)()
        until(lambda: not waker.asleep)
        call_in(getattr(waker, wake))
        last_wish.set()
        assert sleeper.get(timeout=10) == "waited to the end"


class TestNews:
    """What is written for a sleeper that need not wake."""

    def sleeper(self, waker: HubWaker, takes: bool = True) -> tuple[gevent.Greenlet, list[str]]:
        """One that lets news be passed on, as long as it `takes` them."""
        order: list[str] = []

        def write_pending() -> bool:
            order.append("passed on")
            return takes

        def sleep() -> None:
            assert waker.wait(PATIENT, write_pending)
            order.append("woken")

        greenlet = gevent.spawn(sleep)
        until(lambda: waker.asleep)
        return greenlet, order

    @FROM_ANYWHERE
    def test_they_are_passed_on_and_the_sleeper_sleeps_on_until_it_is_woken(self, call_in):
        waker = HubWaker()
        sleeper, order = self.sleeper(waker)
        call_in(waker.notify_data)
        call_in(waker.notify_data)
        assert order == ["passed on", "passed on"]
        assert waker.asleep
        call_in(waker.wake)
        sleeper.get(timeout=10)
        assert order == ["passed on", "passed on", "woken"]

    @FROM_ANYWHERE
    def test_what_is_not_all_passed_on_wakes_the_sleeper(self, call_in):
        waker = HubWaker()
        sleeper, order = self.sleeper(waker, takes=False)
        call_in(waker.notify_data)
        sleeper.get(timeout=10)
        assert order == ["passed on", "woken"]

    @FROM_ANYWHERE
    def test_a_fault_in_passing_on_is_the_sleepers_not_the_callers(self, call_in):
        waker = HubWaker()

        def write_pending() -> bool:
            raise ValueError("of this reader")

        sleeper = gevent.spawn(waker.wait, PATIENT, write_pending)
        until(lambda: waker.asleep)
        call_in(waker.notify_data)
        assert sleeper.get(timeout=10) is True

    def test_after_a_waking_nothing_is_passed_on_before_the_sleeper_has_run(self):
        """It has something else to look at first, and reads the news after that."""
        waker = HubWaker()
        sleeper, order = self.sleeper(waker)
        waker.wake()  # Not in the hub, so that the sleeper runs later.
        waker.notify_data()
        sleeper.get(timeout=10)
        assert order == ["woken"]

    def test_of_a_row_they_are_held_until_it_is_read(self):
        waker = HubWaker()
        sleeper, order = self.sleeper(waker)
        with write_batch:
            waker.notify_data()
            waker.notify_data()
            assert order == []
        assert order == ["passed on", "passed on"]
        waker.wake()
        sleeper.get(timeout=10)

    @FROM_ANYWHERE
    def test_a_waking_in_a_batch_is_not_held(self, call_in):
        waker = HubWaker()
        sleeper, order = self.sleeper(waker)
        with write_batch:
            waker.notify_data()
            call_in(waker.wake)
            sleeper.get(timeout=10)
        assert order == ["woken"]
        assert waker.wait(PATIENT), "the news are there for the next sleep"

    @FROM_ANYWHERE
    def test_while_nobody_sleeps_they_end_the_next_sleep(self, call_in):
        waker = HubWaker()
        call_in(waker.notify_data)
        assert waker.wait(PATIENT, lambda: pytest.fail("the sleeper is awake"))


class Nap:
    """A sleeper that counts how often its time has come."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.listed = False
        self.asleep = True
        self.times = 0

    def time_out(self) -> None:
        self.times += 1
        self.asleep = False


class TestSweeper:
    def test_it_wakes_who_is_due_drops_who_is_awake_by_then_and_leaves_the_others(self):
        sweeper = Sweeper()
        due, awake, later = Nap(0.0), Nap(0.0), Nap(time.monotonic() + PATIENT)
        awake.asleep = False
        for nap in (due, awake, later):
            sweeper.add(nap)
            assert nap.listed
        until(lambda: not due.listed and not awake.listed)
        assert (due.times, awake.times, later.times) == (1, 0, 0)
        assert later.listed
        later.asleep, later.deadline = False, 0.0
        until(lambda: not later.listed)

    def test_it_begins_again_after_a_time_without_sleepers(self):
        sweeper = Sweeper()
        for _ in range(2):
            nap = Nap(0.0)
            sweeper.add(nap)
            until(lambda nap=nap: not nap.listed)
            assert nap.times == 1
