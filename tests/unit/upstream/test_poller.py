"""Reading upstreams in gevent's hub: every byte is handed on, and every body ends once."""

import os
import socket
from typing import Any

import gevent
import gevent.event
import gevent.socket
import httpx2
import pytest
from gevent import monkey

from chatapp.runtime.event_loop import HubWaker
from chatapp.upstream.poller import (
    AT_ONCE,
    PAUSES,
    AdaptivePoller,
    BodyReader,
    current_poller,
    read_body,
)
from chatapp.upstream.transport import RawBody
from tests.support.event_loop import PATIENT, pair, until

__all__ = ["pair"]

pytestmark = pytest.mark.timeout(30)


class Body(RawBody):
    """What came with the head, and then what the socket gives; `b""` at the end."""

    def __init__(self, sock: Any, *head: bytes) -> None:
        self.sock = sock
        self.head = list(head)

    def read(self) -> bytes:
        return self.head.pop(0) if self.head else self.sock.recv(65_536)

    def watchable(self) -> "Body | None":
        self.sock.setblocking(False)
        return self

    @property
    def descriptor(self) -> int:
        return int(self.sock.fileno())

    @property
    def pending(self) -> bool:
        return bool(self.head)

    def receive_now(self) -> bytes | None:
        try:
            return self.read()
        except BlockingIOError:
            return None

    def drain(self, seconds: float) -> bool:
        raise NotImplementedError


class WaitingBody(Body):
    """One that can only be read by waiting."""

    def watchable(self) -> None:
        return None


class Reading:
    """One body that is read: what was taken, and how it ended."""

    def __init__(self, patience: float = PATIENT) -> None:
        self.taken: list[bytes] = []
        self.ends: list[Exception | None] = []
        self.patience = patience
        self.waker: HubWaker | None = None

    def take(self, data: bytes) -> float:
        self.taken.append(data)
        if self.waker:
            self.waker.notify_data()
        if data == b"bad":
            raise ValueError("no such piece")
        return 0.0 if data == b"enough" else self.patience

    def run(self, body: RawBody, patience: float = PATIENT) -> None:
        gevent.spawn(read_body, body, self.take, self.ends.append, patience).join(10)


@pytest.fixture(params=[Body, WaitingBody])
def kind(request: pytest.FixtureRequest) -> type[Body]:
    return request.param


class TestPump:
    def test_it_hands_over_what_came_with_the_head_and_then_what_comes(self, kind, pair):
        reading = Reading()
        body = kind(pair[0], b"one", b"two")
        reader = gevent.spawn(reading.run, body)
        until(lambda: reading.taken == [b"one", b"two"])
        pair[1].sendall(b"three")
        until(lambda: reading.taken == [b"one", b"two", b"three"])
        assert reading.ends == []
        pair[1].close()
        until(lambda: reading.ends)
        reader.join(10)
        assert reading.taken == [b"one", b"two", b"three"]
        assert reading.ends == [None]

    def test_it_stops_when_the_taker_has_enough_and_reads_no_further(self, kind, pair):
        reading = Reading()
        pair[1].sendall(b"unread")
        reading.run(kind(pair[0], b"enough"))
        until(lambda: reading.ends)
        assert (reading.taken, reading.ends) == ([b"enough"], [None])
        assert pair[0].recv(100) == b"unread"

    def test_it_reports_what_the_taker_raises(self, kind, pair):
        reading = Reading()
        pair[1].sendall(b"bad")
        reading.run(kind(pair[0]))
        until(lambda: reading.ends)
        assert [str(end) for end in reading.ends] == ["no such piece"]

    def test_it_reports_what_the_body_raises(self, kind, pair):
        class Broken(kind):
            def read(self) -> bytes:
                raise httpx2.ReadError("the wire was cut")

        reading = Reading()
        pair[1].sendall(b"never read")
        reading.run(Broken(pair[0]))
        until(lambda: reading.ends)
        assert [str(end) for end in reading.ends] == ["the wire was cut"]

    def test_it_bears_silence_before_the_first_bytes_only_so_long(self, kind, pair):
        reading = Reading()
        reading.run(kind(pair[0]), patience=0.01)
        until(lambda: reading.ends)
        assert [type(end) for end in reading.ends] == [httpx2.ReadTimeout]

    def test_it_bears_silence_as_long_as_the_taker_said(self, kind, pair):
        reading = Reading(patience=0.01)
        pair[1].sendall(b"one")
        reading.run(kind(pair[0]))
        until(lambda: reading.ends)
        assert reading.taken == [b"one"]
        assert [type(end) for end in reading.ends] == [httpx2.ReadTimeout]

    def test_it_ends_once_whatever_comes_after(self, pair):
        reading = Reading()
        reader = BodyReader(Body(pair[0]), reading.take, reading.ends.append)
        own = current_poller()
        assert own is not None
        reader.start(own, PATIENT)
        pair[1].close()
        until(lambda: reading.ends)
        reader.time_out()
        until(lambda: not reader.listed)
        assert reading.ends == [None]

    def test_a_set_that_takes_no_more_ends_the_reading(self, pair, monkeypatch):
        def full(*_: Any) -> None:
            raise OSError("no space left")

        own, reading = current_poller(), Reading()
        assert own is not None
        monkeypatch.setattr(own, "add", full)
        reading.run(Body(pair[0], b"with the head"))
        assert ([str(end) for end in reading.ends], reading.taken) == (["no space left"], [])

    def test_the_end_may_wait(self, pair):
        """It is told in a greenlet, not in the hub."""
        ended = gevent.event.Event()

        def end(_: Exception | None) -> None:
            gevent.sleep(0)
            ended.set()

        read_body(Body(pair[0]), lambda _: PATIENT, end, PATIENT)
        pair[1].close()
        assert ended.wait(10)

    def test_a_reader_that_the_hub_wakes_can_take_its_time(self, pair):
        """The hub runs the reader up to its first wait, and goes on reading."""
        waker, notify_data, seen = HubWaker(), [], []

        def take(data: bytes) -> float:
            notify_data.append(data)
            waker.wake()
            return PATIENT

        def read() -> None:
            while len(seen) < len(b"abc"):
                assert waker.wait(PATIENT)
                gevent.sleep(0.001)
                seen.extend(b"".join(notify_data)[len(seen) :])

        reader = gevent.spawn(read)
        read_body(Body(pair[0]), take, lambda _: None, PATIENT)
        for letter in (b"a", b"b", b"c"):
            pair[1].sendall(letter)
            gevent.sleep(0)
        reader.get(timeout=10)
        assert bytes(seen) == b"abc"
        pair[1].close()


def ticking(own: AdaptivePoller) -> list[float]:
    """The pauses between looks that a timer makes now."""
    return [pause for pause, tick in zip(PAUSES, own._ticks, strict=True) if tick.active]


class Crowd:
    """Many bodies that are read concurrently."""

    def __init__(self, size: int) -> None:
        self.pairs = [socket.socketpair() for _ in range(size)]
        self.readings = [Reading() for _ in self.pairs]
        self.talks = False
        """Whether each has more to say as soon as it is heard."""
        for (here, there), reading in zip(self.pairs, self.readings, strict=True):

            def take(data: bytes, there: Any = there, reading: Reading = reading) -> float:
                if self.talks:
                    there.sendall(data)
                return reading.take(data)

            read_body(Body(here), take, reading.ends.append, PATIENT)

    def say(self, word: bytes) -> None:
        for _, there in self.pairs:
            there.sendall(word)

    def heard(self) -> list[bytes]:
        return [b"".join(reading.taken) for reading in self.readings]

    def close(self) -> None:
        for _, there in self.pairs:
            there.close()
        until(lambda: all(reading.ends for reading in self.readings))
        for here, _ in self.pairs:
            here.close()


class TestPoller:
    def test_more_than_are_read_in_a_row_are_all_read_again_and_again(self):
        crowd = Crowd(4 * AT_ONCE + 1)
        said = b""
        for number in range(20):
            word = b"%d." % number
            said += word
            crowd.say(word)
            gevent.sleep(0)
        until(lambda: crowd.heard() == [said] * len(crowd.pairs))
        crowd.close()
        assert [reading.ends for reading in crowd.readings] == [[None]] * len(crowd.pairs)

    def test_after_a_dense_time_a_lone_token_is_read_and_nothing_ticks(self):
        own, crowd = current_poller(), Crowd(50)
        assert own is not None
        crowd.say(b"a")
        gevent.sleep(0)
        crowd.say(b"b")
        until(lambda: crowd.heard() == [b"ab"] * 50)
        until(lambda: not ticking(own))
        assert own._arrival.active
        assert not own._idle.active
        crowd.pairs[7][1].sendall(b"c")
        until(lambda: crowd.heard()[7] == b"abc")
        crowd.close()
        assert not any(watcher.active for watcher in (own._arrival, *own._ticks, own._idle))

    def test_pauses_get_longer_where_few_come_and_shorter_where_many_do(self):
        own, few, many = current_poller(), Crowd(2), Crowd(3 * AT_ONCE)
        assert own is not None
        few.talks = True
        few.say(b"x")
        until(lambda: ticking(own) == [PAUSES[-1]])
        many.talks = True
        many.say(b"x")
        until(lambda: ticking(own) == [PAUSES[0]])
        many.talks = False
        until(lambda: ticking(own) == [PAUSES[-1]])
        few.talks = False
        few.close()
        many.close()
        assert ticking(own) == []

    def test_all_of_a_row_are_read_before_anything_is_passed_on(self):
        crowd, seen = Crowd(2), []
        wakers = [HubWaker() for _ in crowd.readings]

        def write_pending() -> bool:
            seen.append(crowd.heard())
            return True

        sleepers = [gevent.spawn(waker.wait, PATIENT, write_pending) for waker in wakers]
        until(lambda: all(waker.asleep for waker in wakers))
        for waker, reading in zip(wakers, crowd.readings, strict=True):
            reading.waker = waker
        crowd.say(b"x")
        until(lambda: len(seen) == 2)
        assert seen == [[b"x", b"x"]] * 2
        for waker in wakers:
            waker.wake()
        gevent.joinall(sleepers, timeout=10, raise_error=True)
        crowd.close()

    def test_who_keeps_the_hub_busy_delays_tokens_but_does_not_stop_them(self):
        busy = True

        def keep_busy() -> None:
            while busy:
                gevent.sleep(0)

        hogs = [gevent.spawn(keep_busy) for _ in range(3)]
        crowd = Crowd(2 * AT_ONCE)
        for _ in range(10):
            crowd.say(b"x")
            gevent.sleep(0)
        until(lambda: crowd.heard() == [b"x" * 10] * len(crowd.pairs))
        busy = False
        gevent.joinall(hogs, timeout=10)
        crowd.close()

    def test_one_that_is_ended_by_another_of_the_same_row_is_not_read(self):
        pairs = [socket.socketpair() for _ in range(2)]
        readers: list[BodyReader] = []
        taken: list[int] = []

        def take(number: int) -> float:
            taken.append(number)
            readers[1 - number].time_out()
            return PATIENT

        for number, (here, there) in enumerate(pairs):
            there.sendall(b"x")
            readers.append(BodyReader(Body(here), lambda _, n=number: take(n), lambda _: None))
        own = current_poller()
        assert own is not None
        for each in readers:
            each.start(own, PATIENT)
        until(lambda: taken)
        gevent.sleep(0.01)
        assert len(taken) == 1
        readers[taken[0]].time_out()
        for sock in (sock for each in pairs for sock in each):
            sock.close()

    def test_a_child_process_has_a_set_of_its_own(self, monkeypatch):
        before = current_poller()
        assert current_poller() is before
        monkeypatch.setattr(os, "getpid", lambda: -1)
        assert current_poller() is not before

    def test_where_there_is_no_epoll_the_caller_reads(self, monkeypatch, pair):
        def missing(*_: Any) -> None:
            raise AttributeError("module 'select' has no attribute 'epoll'")

        monkeypatch.setattr(os, "getpid", lambda: -2)  # Whoever asks is a new process.
        monkeypatch.setattr(monkey, "get_original", missing)
        assert current_poller() is None
        reading = Reading()
        pair[1].sendall(b"one")
        pair[1].close()
        read_body(Body(pair[0]), reading.take, reading.ends.append, PATIENT)
        assert (reading.taken, reading.ends) == ([b"one"], [None])
