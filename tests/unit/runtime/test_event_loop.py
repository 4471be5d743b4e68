"""Waits in gevent's hub: nobody oversleeps, nothing is lost, and news need no waking."""

import time

import gevent
import gevent.event
import pytest

from chatapp.runtime.event_loop import HubBell, Sweeper, row
from tests.support.event_loop import PATIENT, in_greenlet, in_hub, until

pytestmark = pytest.mark.timeout(30)

RINGERS = pytest.mark.parametrize("ringer", [in_hub, in_greenlet])


class TestHubBell:
    @RINGERS
    def test_a_ring_before_the_sleep_ends_it_at_once(self, ringer):
        bell = HubBell()
        ringer(bell.ring)
        ringer(bell.ring)
        assert bell.wait(PATIENT)
        assert not bell.wait(0), "two rings nobody waited for are one"

    @RINGERS
    def test_a_ring_during_the_sleep_ends_it(self, ringer):
        bell = HubBell()
        sleeper = gevent.spawn(bell.wait, PATIENT)
        until(lambda: bell.asleep)
        ringer(bell.ring)
        assert sleeper.get(timeout=10) is True
        assert not bell.asleep

    def test_in_the_hub_the_sleeper_has_run_before_the_ring_returns(self):
        bell, order = HubBell(), []
        sleeper = gevent.spawn(lambda: (bell.wait(PATIENT), order.append("sleeper")))
        until(lambda: bell.asleep)
        in_hub(lambda: (bell.ring(), order.append("ringer")))
        sleeper.join(10)
        assert order == ["sleeper", "ringer"]

    def test_a_ring_between_waking_and_the_next_sleep_is_kept(self):
        bell, woken = HubBell(), []

        def sleep_twice() -> None:
            woken.append(bell.wait(PATIENT))
            bell.ring()
            woken.append(bell.wait(PATIENT))

        sleeper = gevent.spawn(sleep_twice)
        until(lambda: bell.asleep)
        in_hub(bell.ring)
        sleeper.get(timeout=10)
        assert woken == [True, True]

    @pytest.mark.parametrize("wake", ["ring", "time_out"])
    def test_wakings_that_come_together_end_one_sleep(self, wake):
        """The next one lasts until it is rung."""
        bell, woken = HubBell(), []

        def sleep_twice() -> None:
            woken.append(bell.wait(PATIENT))
            woken.append(bell.wait(PATIENT))

        sleeper = gevent.spawn(sleep_twice)
        until(lambda: bell.asleep)
        gevent.get_hub().loop.run_callback(getattr(bell, wake))
        bell.time_out()
        bell.time_out()
        until(lambda: woken)
        in_hub(lambda: None)
        bell.ring()
        sleeper.get(timeout=10)
        assert woken == [wake == "ring", True]

    def test_no_news_is_lost_between_many_writers_and_one_reader(self):
        bell, news, seen = HubBell(), [], []

        def write(name: int) -> None:
            for number in range(50):
                news.append((name, number))
                bell.ring()
                gevent.sleep(0)

        def read() -> None:
            while len(seen) < 200:
                seen.extend(news[len(seen) :])
                if len(seen) < 200:
                    assert bell.wait(PATIENT)

        reader = gevent.spawn(read)
        gevent.joinall([gevent.spawn(write, name) for name in range(4)], timeout=10)
        reader.get(timeout=10)
        assert seen == news

    def test_a_sleep_without_a_ring_ends_by_itself_and_the_bell_still_works(self):
        bell = HubBell()
        assert gevent.spawn(bell.wait, 0.01).get(timeout=10) is False
        again = gevent.spawn(bell.wait, PATIENT)
        until(lambda: bell.asleep)
        bell.ring()
        assert again.get(timeout=10) is True

    def test_a_ring_that_comes_with_the_timeout_counts(self):
        bell = HubBell()
        sleeper = gevent.spawn(bell.wait, PATIENT)
        until(lambda: bell.asleep)
        bell.time_out()
        bell.ring()
        assert sleeper.get(timeout=10) is True

    @pytest.mark.parametrize("wake", ["ring", "time_out"])
    @RINGERS
    def test_a_killed_sleeper_is_not_switched_to(self, wake, ringer):
        """Neither by a waking that was scheduled before, nor by one that comes later."""
        bell, last_wish = HubBell(), gevent.event.Event()

        def sleep() -> str:
            try:
                bell.wait(PATIENT)
            except gevent.GreenletExit:
                last_wish.wait()  # Raises when it is switched to by anything else.
                return "waited to the end"
            return "was not killed"

        sleeper = gevent.spawn(sleep)
        until(lambda: bell.asleep)
        sleeper.kill(block=False)  # Delivered first: the hub keeps the order.
        getattr(bell, wake)()
        until(lambda: not bell.asleep)
        ringer(getattr(bell, wake))
        last_wish.set()
        assert sleeper.get(timeout=10) == "waited to the end"


class TestNews:
    """What is written for a sleeper that need not wake."""

    def sleeper(self, bell: HubBell, takes: bool = True) -> tuple[gevent.Greenlet, list[str]]:
        """One that lets news be passed on, as long as it `takes` them."""
        order: list[str] = []

        def pass_on() -> bool:
            order.append("passed on")
            return takes

        def sleep() -> None:
            assert bell.wait(PATIENT, pass_on)
            order.append("woken")

        greenlet = gevent.spawn(sleep)
        until(lambda: bell.asleep)
        return greenlet, order

    @RINGERS
    def test_they_are_passed_on_and_the_sleeper_sleeps_on_until_it_is_rung(self, ringer):
        bell = HubBell()
        sleeper, order = self.sleeper(bell)
        ringer(bell.news)
        ringer(bell.news)
        assert order == ["passed on", "passed on"]
        assert bell.asleep
        ringer(bell.ring)
        sleeper.get(timeout=10)
        assert order == ["passed on", "passed on", "woken"]

    @RINGERS
    def test_what_is_not_all_passed_on_wakes_the_sleeper(self, ringer):
        bell = HubBell()
        sleeper, order = self.sleeper(bell, takes=False)
        ringer(bell.news)
        sleeper.get(timeout=10)
        assert order == ["passed on", "woken"]

    @RINGERS
    def test_a_fault_in_passing_on_is_the_sleepers_not_the_ringers(self, ringer):
        bell = HubBell()

        def pass_on() -> bool:
            raise ValueError("of this reader")

        sleeper = gevent.spawn(bell.wait, PATIENT, pass_on)
        until(lambda: bell.asleep)
        ringer(bell.news)
        assert sleeper.get(timeout=10) is True

    def test_after_a_ring_nothing_is_passed_on_before_the_sleeper_has_run(self):
        """It has something else to look at first, and reads the news after that."""
        bell = HubBell()
        sleeper, order = self.sleeper(bell)
        bell.ring()  # Not in the hub, so that the sleeper runs later.
        bell.news()
        sleeper.get(timeout=10)
        assert order == ["woken"]

    def test_of_a_row_they_are_held_until_it_is_read(self):
        bell = HubBell()
        sleeper, order = self.sleeper(bell)
        with row:
            bell.news()
            bell.news()
            assert order == []
        assert order == ["passed on", "passed on"]
        bell.ring()
        sleeper.get(timeout=10)

    @RINGERS
    def test_a_ring_in_a_row_is_not_held(self, ringer):
        bell = HubBell()
        sleeper, order = self.sleeper(bell)
        with row:
            bell.news()
            ringer(bell.ring)
            sleeper.get(timeout=10)
        assert order == ["woken"]
        assert bell.wait(PATIENT), "the news are there for the next sleep"

    @RINGERS
    def test_while_nobody_sleeps_they_end_the_next_sleep(self, ringer):
        bell = HubBell()
        ringer(bell.news)
        assert bell.wait(PATIENT, lambda: pytest.fail("the sleeper is awake"))


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
