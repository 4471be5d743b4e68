"""What gevent's hub does for a stream: nobody oversleeps, nothing is lost, every body ends once."""

import contextlib
import errno
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.event
import gevent.socket
import httpx2
import pytest

from chatapp.connections import Connection, QuickSocket, StallGuard, quick
from chatapp.hub import HubBell, Pump, Sweeper, pump
from chatapp.transport import RawBody

pytestmark = pytest.mark.timeout(30)

PATIENT = 60.0
"""Seconds that no test waits out: what ends before was woken."""


def until(true: Callable[[], Any]) -> None:
    """Let the other greenlets run until it is true."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        gevent.sleep(0.001)


def in_hub(call: Callable[[], None]) -> None:
    """Have gevent's hub call it, and return when it has."""
    done = gevent.event.Event()
    gevent.get_hub().loop.run_callback(lambda: (call(), done.set()))
    assert done.wait(10)


def in_greenlet(call: Callable[[], None]) -> None:
    gevent.spawn(call).get(timeout=10)


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


class Body(RawBody):
    """What came with the head, and then what the socket gives; `b""` at the end."""

    def __init__(self, sock: Any, *head: bytes) -> None:
        self.sock = sock
        self.head = list(head)

    def read(self) -> bytes:
        return self.head.pop(0) if self.head else self.sock.recv(65_536)

    def watchable(self) -> int | None:
        self.sock.setblocking(False)
        return self.sock.fileno()

    def read_now(self) -> bytes | None:
        try:
            return self.read()
        except BlockingIOError:
            return None

    @property
    def buffered(self) -> bool:
        return bool(self.head)

    def drain(self, seconds: float) -> bool:
        raise NotImplementedError


class WaitingBody(Body):
    """One that can only be read by waiting."""

    def watchable(self) -> None:
        return None


class Reading:
    """One pumped body: what was taken, and how it ended."""

    def __init__(self, patience: float = PATIENT) -> None:
        self.taken: list[bytes] = []
        self.ends: list[Exception | None] = []
        self.patience = patience

    def take(self, data: bytes) -> float:
        self.taken.append(data)
        if data == b"bad":
            raise ValueError("no such piece")
        return 0.0 if data == b"enough" else self.patience

    def run(self, body: RawBody, patience: float = PATIENT) -> None:
        gevent.spawn(pump, body, self.take, self.ends.append, patience).join(10)


@pytest.fixture(params=[Body, WaitingBody])
def kind(request: pytest.FixtureRequest) -> type[Body]:
    return request.param


@pytest.fixture
def pair() -> Iterator[tuple[Any, Any]]:
    here, there = gevent.socket.socketpair()
    with here, there:
        yield here, there


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
        pumping = Pump(Body(pair[0]), reading.take, reading.ends.append)
        pumping.start(pair[0].fileno(), PATIENT)
        pair[1].close()
        until(lambda: reading.ends)
        pumping.time_out()
        until(lambda: not pumping.listed)
        assert reading.ends == [None]

    def test_the_end_may_wait(self, pair):
        """It is told in a greenlet, not in the hub."""
        ended = gevent.event.Event()

        def end(_: Exception | None) -> None:
            gevent.sleep(0)
            ended.set()

        pump(Body(pair[0]), lambda _: PATIENT, end, PATIENT)
        pair[1].close()
        assert ended.wait(10)

    def test_a_reader_that_the_hub_wakes_can_take_its_time(self, pair):
        """The hub runs the reader up to its first wait, and goes on reading."""
        bell, news, seen = HubBell(), [], []

        def take(data: bytes) -> float:
            news.append(data)
            bell.ring()
            return PATIENT

        def read() -> None:
            while len(seen) < len(b"abc"):
                assert bell.wait(PATIENT)
                gevent.sleep(0.001)
                seen.extend(b"".join(news)[len(seen) :])

        reader = gevent.spawn(read)
        pump(Body(pair[0]), take, lambda _: None, PATIENT)
        for letter in (b"a", b"b", b"c"):
            pair[1].sendall(letter)
            gevent.sleep(0)
        reader.get(timeout=10)
        assert bytes(seen) == b"abc"
        pair[1].close()


class TestQuickSocket:
    def test_it_sends_everything_when_the_kernel_takes_only_a_part(self, pair):
        data = bytes(range(256)) * 16_384  # more than a socket's buffer
        sock = quick(pair[0])
        assert isinstance(sock, QuickSocket)
        received = bytearray()

        def receive() -> None:
            while piece := pair[1].recv(65_536):
                received.extend(piece)

        receiver = gevent.spawn(receive)
        with sock:
            sock.sendall(b"first")
            sock.sendall(memoryview(data))
            sock.sendall(b"")
            sock.sendall(b"last")
        receiver.get(timeout=20)
        assert bytes(received) == b"first" + data + b"last"

    def test_it_sends_everything_when_the_kernel_takes_nothing_at_first(self, pair):
        with quick(pair[0]) as sock:
            filled = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    filled += sock._sock.send(b"x" * 65_536)
            sender = gevent.spawn(sock.sendall, b"behind")
            gevent.sleep(0)
            assert not sender.ready()
            received = b""
            while len(received) < filled + len(b"behind"):
                received += pair[1].recv(65_536)
            sender.get(timeout=10)
        assert received == b"x" * filled + b"behind"

    @pytest.mark.parametrize("make", [quick, lambda sock: sock])
    def test_it_raises_as_gevent_does(self, pair, make):
        sock = make(pair[0])
        with pytest.raises(TypeError):
            sock.sendall("text")
        pair[1].close()
        with pytest.raises(BrokenPipeError):
            sock.sendall(b"nobody takes this")
        sock.close()
        with pytest.raises(OSError, match=rf"Errno {errno.EBADF}\b"):
            sock.sendall(b"nor this")

    @pytest.mark.parametrize("make", [quick, lambda sock: sock])
    def test_it_times_out_as_gevent_does(self, pair, make):
        with make(pair[0]) as sock:
            sock.settimeout(0.05)
            with pytest.raises(TimeoutError):
                sock.sendall(bytes(1 << 24))

    def test_quick_takes_the_connection_over_and_leaves_other_sockets_alone(self, pair):
        descriptor = pair[0].fileno()
        with quick(pair[0]) as sock:
            assert (sock.fileno(), pair[0].fileno()) == (descriptor, -1)
            assert quick(sock) is sock
        plain = socket.socket()
        with plain:
            assert quick(plain) is plain


@pytest.fixture
def cooperative(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a worker, where gevent has patched the sockets."""
    monkeypatch.setattr("chatapp.connections.cooperative", lambda: True)


@pytest.mark.usefixtures("cooperative")
class TestStallGuard:
    def serve(self, sock: Any, stalls: StallGuard, since: float) -> tuple[Any, list[Any]]:
        """A greenlet that writes more than the client takes, and what becomes of it."""
        outcome: list[Any] = []

        def write() -> None:
            connection = Connection(sock, lambda: None, stalls)
            connection.writing_since = since
            try:
                sock.sendall(bytes(1 << 24))
            except BaseException as error:
                outcome.append(error)
            finally:
                connection.close()
                sock.close()

        return gevent.spawn(write), outcome

    def test_a_client_that_takes_nothing_is_cut_off_as_if_it_had_gone(self, pair):
        writer, outcome = self.serve(pair[0], StallGuard(0.05), time.monotonic())
        writer.join(10)
        assert [type(error) for error in outcome] == [BrokenPipeError]

    @pytest.mark.parametrize("since", [0.0, float("inf")])
    def test_who_is_not_writing_or_has_time_left_stays(self, pair, since):
        guard = StallGuard(0.05)
        stalled, other = gevent.socket.socketpair()
        writer, outcome = self.serve(pair[0], guard, since)
        with other:
            cut, _ = self.serve(stalled, guard, time.monotonic())
            cut.join(10)
        assert not outcome
        assert not writer.ready()
        writer.kill()

    def test_a_client_that_goes_is_noticed_once(self, pair):
        gone: list[None] = []
        guard = StallGuard(PATIENT)
        connection = Connection(pair[0], lambda: gone.append(None), guard)
        pair[1].close()
        until(lambda: connection.gone)
        gevent.sleep(0)
        assert len(gone) == 1
        connection.close()

    def test_a_request_sent_early_is_left_for_the_server(self, pair):
        connection = Connection(pair[0], lambda: pytest.fail("it is there"), StallGuard(PATIENT))
        pair[1].sendall(b"GET /")
        until(lambda: connection._watcher is None)
        assert not connection.gone
        assert pair[0].recv(100) == b"GET /"
        connection.close()
