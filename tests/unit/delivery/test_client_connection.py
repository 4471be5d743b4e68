"""The client's end: what is sent arrives, whoever sends it; who goes or stalls is noticed."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import gevent
import gevent.socket
import pytest

from chatapp.delivery.client_connection import Connection, SlowClientGuard
from chatapp.delivery.client_socket import CHUNK, as_fast_send_socket
from tests.support.client import reset
from tests.support.event_loop import PATIENT, pair, until

__all__ = ["pair"]

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def tcp() -> Iterator[tuple[Any, Any]]:
    """The two ends of a connection that can be reset; those of a `socketpair` can't."""
    with gevent.socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        there = gevent.socket.create_connection(listener.getsockname())
        here, _ = listener.accept()
    with here, there:
        yield here, there


@pytest.fixture
def cooperative(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a worker, where gevent has patched the sockets."""
    monkeypatch.setattr("chatapp.delivery.client_connection.cooperative", lambda: True)


@pytest.mark.usefixtures("cooperative")
class TestStallGuard:
    def serve(self, sock: Any, stalls: SlowClientGuard, since: float) -> tuple[Any, list[Any]]:
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
        writer, outcome = self.serve(pair[0], SlowClientGuard(0.05), time.monotonic())
        writer.join(10)
        assert [type(error) for error in outcome] == [BrokenPipeError]

    @pytest.mark.parametrize("since", [0.0, float("inf")])
    def test_who_is_not_writing_or_has_time_left_stays(self, pair, since):
        guard = SlowClientGuard(0.05)
        stalled, other = gevent.socket.socketpair()
        writer, outcome = self.serve(pair[0], guard, since)
        with other:
            cut, _ = self.serve(stalled, guard, time.monotonic())
            cut.join(10)
        assert not outcome
        assert not writer.ready()
        writer.kill()

    def test_a_client_that_is_reset_has_gone(self, tcp):
        woken: list[None] = []
        connection = Connection(tcp[0], lambda: woken.append(None), SlowClientGuard(PATIENT))
        reset(tcp[1])
        until(lambda: connection.gone)
        gevent.sleep(0)
        assert len(woken) == 1
        connection.close()

    def test_a_client_that_closes_has_gone_when_it_answers_a_write_with_a_reset(self, tcp):
        woken: list[bool] = []
        connection = Connection(
            tcp[0], lambda: woken.append(connection.gone), SlowClientGuard(PATIENT)
        )
        tcp[1].close()
        until(lambda: connection.maybe_gone)
        assert woken == [False]
        tcp[0].sendall(b": still there?")
        until(lambda: connection.gone)
        assert woken == [False, True]
        connection.close()

    def test_a_client_that_closes_its_half_reads_on_until_it_goes(self, tcp, monkeypatch):
        looks: list[float] = []
        look = Connection._look_for_reset

        def noted(connection: Connection, pause: float) -> None:
            looks.append(pause)
            look(connection, pause)

        monkeypatch.setattr(Connection, "_look_for_reset", noted)
        connection = Connection(tcp[0], lambda: None, SlowClientGuard(PATIENT))
        tcp[1].shutdown(socket.SHUT_WR)
        for number in range(4):
            until(lambda number=number: len(looks) > number)
            tcp[0].sendall(b"text")
            assert tcp[1].recv(100) == b"text"
        assert looks == sorted(looks)
        assert connection.maybe_gone
        assert not connection.gone
        tcp[1].close()
        tcp[0].sendall(b"text")
        until(lambda: connection.gone)
        connection.close()

    def test_a_request_sent_early_is_left_for_the_server(self, pair):
        connection = Connection(
            pair[0], lambda: pytest.fail("it is there"), SlowClientGuard(PATIENT)
        )
        pair[1].sendall(b"GET /")
        until(lambda: connection._watcher is None)
        assert not connection.gone
        assert pair[0].recv(100) == b"GET /"
        connection.close()


@pytest.mark.usefixtures("cooperative")
class TestDirectWriting:
    """A response's later blocks are written past the server where the first went as it was."""

    @pytest.fixture
    def connection(self, pair):
        with as_fast_send_socket(pair[0]) as sock:
            connection = Connection(sock, lambda: None, SlowClientGuard(PATIENT))
            yield connection
            connection.close()

    @pytest.fixture
    def client(self, pair):
        return pair[1]

    def yielded(self, connection: Connection, block: bytes, *sent: bytes) -> None:
        """The generator has yielded a block, and the server has sent something for it."""
        connection.begin_write(block)
        for data in sent:
            connection._sock.sendall(data)
        connection.end_write()

    @pytest.mark.parametrize("framed", [lambda block: CHUNK % (len(block), block), bytes])
    def test_it_is_allowed_when_the_first_block_left_as_it_was(self, connection, client, framed):
        assert not connection.direct
        self.yielded(connection, b"first", b"HTTP/1.1 200 OK\r\n\r\n", framed(b"first"))
        assert connection.direct
        assert connection.try_send(b"second, which is longer")
        assert connection.try_send(b"third")
        expected = b"".join(map(framed, (b"first", b"second, which is longer", b"third")))
        received = b""
        while len(received) < len(b"HTTP/1.1 200 OK\r\n\r\n") + len(expected):
            received += client.recv(1000)
        assert received.endswith(expected)

    @pytest.mark.parametrize("sent", [b"compressed", b"5\r\nfirst", b"first" * 2, b""])
    def test_it_is_not_when_anything_has_changed_it(self, connection, sent):
        self.yielded(connection, b"first", b"head", sent)
        assert not connection.direct
        connection.flush()

    def test_only_the_first_block_decides(self, connection):
        """What holds blocks back may let an equal one through later."""
        self.yielded(connection, b"first", b"")
        self.yielded(connection, b"second", b"second")
        assert not connection.direct

    def test_it_is_not_where_it_is_not_wanted(self, pair):
        with as_fast_send_socket(pair[0]) as sock:
            connection = Connection(
                sock, lambda: None, SlowClientGuard(PATIENT), may_be_direct=False
            )
            self.yielded(connection, b"first", b"first")
            assert not connection.direct
            connection.close()

    def test_it_is_not_where_the_socket_is_not_ours(self, pair):
        connection = Connection(pair[0], lambda: None, SlowClientGuard(PATIENT))
        self.yielded(connection, b"first", b"first")
        assert not connection.direct
        connection.close()

    def test_what_the_client_does_not_take_at_once_is_flushed(self, connection, client):
        """And nothing is lost, cut or doubled at the seam."""
        self.yielded(connection, b"first", b"first")
        blocks = [b"first"]
        while connection.try_send(b"%d," % len(blocks) * 5000):
            blocks.append(b"%d," % len(blocks) * 5000)
        blocks.append(b"%d," % len(blocks) * 5000)
        flushing = gevent.spawn(connection.flush)
        gevent.sleep(0)
        assert connection.writing_since > 0, "a reader that stalls here is cut off, too"
        received = b""
        while len(received) < sum(map(len, blocks)):
            received += client.recv(65_536)
        flushing.get(timeout=10)
        assert connection.writing_since == 0
        assert received == b"".join(blocks)
        assert connection.try_send(b"after that")
        assert client.recv(100) == b"after that"

    def test_a_client_that_has_gone_is_noticed(self, connection, client):
        self.yielded(connection, b"first", b"first")
        client.close()
        connection.try_send(b"into the void")
        assert not connection.try_send(b"into the void")
        assert connection.gone
        connection.flush()

    def test_the_server_counts_what_was_written_past_it(self, connection):
        class Counter:
            sent = 5

        connection.response = Counter()
        self.yielded(connection, b"first", b"first")
        connection.try_send(b"123")
        connection.try_send(b"4567")
        connection.end()
        assert connection.response.sent == 5 + 7
