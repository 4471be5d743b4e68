"""Clients that vanish, stall or never finish what they send: each is noticed and bounded."""

import resource
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.client import Client, Stream, joined, reset
from tests.support.shared_server import Site, ended
from tests.support.upstream import Call, by_hand, poll

FOLLOWERS = 500
WARM_UP = 50
KB_PER_FOLLOWER = 60
BIG = "All work and no play. " * 1000
REPEATS = 80
"""So much of `BIG` fits into no buffer on the way to a client."""
JSON = {"Content_Type": "application/json"}


@pytest.fixture(scope="module")
def site(start_site: Callable[..., Site]) -> Site:
    """Silence is filled only every 15 s, as by default."""
    return start_site(CHATAPP_START_WAIT="0.2")


@pytest.fixture(scope="module")
def strict(start_site: Callable[..., Site]) -> Site:
    return start_site(
        "--keep-alive",
        "1",
        CHATAPP_START_WAIT="1",
        CHATAPP_SEND_TIMEOUT="3",
        CHATAPP_BODY_TIMEOUT="0.5",
        CHATAPP_BODY_MAX_BYTES="2048",
        CHATAPP_MAX_RUNNING="2",
    )


def read_to_end(sock: socket.socket) -> bytes:
    """What comes until the server closes the connection, by FIN or RST."""
    raw = b""
    try:
        while block := sock.recv(65536):
            raw += block
    except ConnectionResetError:
        pass
    return raw


@pytest.mark.parametrize("leave", [Stream.close, Stream.reset], ids=["FIN", "RST"])
def test_a_client_that_vanishes_in_silence_is_noticed(
    site: Site, leave: Callable[[Stream], None], record_property: Callable[[str, object], None]
) -> None:
    """Long before the next comment is due; the answer goes on."""
    client, answer = site.begin(by_hand, f"vanish {leave.__name__}")
    call = site.upstream.call(f"vanish {leave.__name__}")
    call.head()
    stream = client.stream(answer["events"])
    assert next(iter(stream)).event == "start"
    site.wait_for_readers(1)
    left_at = time.monotonic()
    leave(stream)
    site.wait_for_readers(0)
    record_property("noticed after at most, s", f"{time.monotonic() - left_at:.3f}")
    call.text("Still here.")
    call.finish()
    assert poll(ended(client, answer))["text"] == "Still here."


def test_a_page_that_leaves_the_push_channel_frees_its_connection(site: Site) -> None:
    client = site.visitor()
    before = site.open_files()
    streams = [client.stream("/api/events") for _ in range(20)]
    poll(lambda: site.open_files() >= before + 15)
    for stream in streams:
        stream.reset()
    poll(lambda: site.open_files() <= before + 2)


def connections_between(server_port: int, client_port: int) -> int:
    """How many sockets the kernel keeps at the server's end, in whichever state."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    ends = [line.split()[1:3] for line in lines]
    wanted = (f":{server_port:04X}", f":{client_port:04X}")
    return sum((local[-5:], remote[-5:]) == wanted for local, remote in ends)


def test_a_client_that_stops_reading_is_cut_off(strict: Site) -> None:
    """What it did not take is freed, and the answer goes on for the others."""

    def script(call: Call) -> None:
        call.head()
        call.text("Begin. ")
        call.over.wait(30)
        for _ in range(REPEATS):
            call.text(BIG)
        call.finish()

    client, answer = strict.begin(script, "stalled")
    stalled = client.send("GET", answer["events"], receive_buffer=4096)
    port = stalled.getsockname()[1]
    stream = client.stream(answer["events"])
    strict.wait_for_readers(2)
    strict.upstream.call("stalled").over.set()
    events = stream.all()
    assert joined(events) == "Begin. " + BIG * REPEATS
    assert events[-1].event == "done"
    poll(lambda: connections_between(strict.server.port, port) == 0)
    raw = read_to_end(stalled)
    stalled.close()
    assert len(raw) < len(BIG) * REPEATS
    assert b"event: done" not in raw
    again = client.stream(answer["events"]).all()
    assert joined(again) == joined(events)


def test_a_slow_client_that_goes_on_reading_gets_everything(strict: Site) -> None:
    """In all it takes longer than one write may; no single one takes that long."""

    def script(call: Call) -> None:
        call.head()
        for _ in range(REPEATS):
            call.text(BIG)
        call.finish()

    client, answer = strict.begin(script, "slow")
    poll(ended(client, answer))
    pace, raw, mark = threading.Event(), b"", 0
    with client.send("GET", answer["events"], receive_buffer=65536) as sock:
        while b"event: done" not in raw[-1000:]:
            block = sock.recv(16384)
            assert block, f"cut off after {len(raw)} bytes"
            raw += block
            if len(raw) - mark > len(BIG) * REPEATS / 9:
                mark = len(raw)
                pace.wait(0.5)
    assert len(raw) > len(BIG) * REPEATS


def test_a_body_that_never_comes_is_answered_and_the_connection_closed(strict: Site) -> None:
    with Client(strict.url).send("POST", "/api/chat", Content_Length="100", **JSON) as sock:
        sock.sendall(b'{"m')
        raw = read_to_end(sock)
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b'"body_timeout"' in body


def test_a_body_that_comes_too_slowly_is_refused(strict: Site) -> None:
    """The time is for the whole body: a byte now and then does not prolong it."""
    with Client(strict.url).send("POST", "/api/chat", Content_Length="1000", **JSON) as sock:
        sock.settimeout(0.1)
        raw = b""
        for _ in range(200):
            try:
                sock.sendall(b" ")
                raw = sock.recv(4096)
                break
            except TimeoutError:
                continue
    assert raw.startswith(b"HTTP/1.1 408 ")


def test_a_head_that_never_ends_is_cut_off(strict: Site) -> None:
    with socket.create_connection(("127.0.0.1", strict.server.port), timeout=30) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow:")
        assert read_to_end(sock) == b""


def test_a_silent_connection_is_cut_off(strict: Site) -> None:
    with socket.create_connection(("127.0.0.1", strict.server.port), timeout=30) as sock:
        assert read_to_end(sock) == b""


def test_a_body_that_is_too_large_is_refused(strict: Site) -> None:
    reply = strict.visitor().call("POST", "/api/chat", {"message": "x" * 3000})
    assert (reply.status, reply.error["code"]) == (413, "body_too_large")
    assert strict.upstream.calls_for("x" * 3000) == []


@pytest.mark.parametrize("piece", [1000, 4000])
def test_a_body_of_unknown_length_is_bounded_too(strict: Site, piece: int) -> None:
    """Sent in chunks, without an announcement of how much comes."""
    text = b'{"message": "' + b"x" * 8000 + b'"}'
    head = {"Transfer_Encoding": "chunked", **JSON}
    with Client(strict.url).send("POST", "/api/chat", **head) as sock:
        for at in range(0, len(text), piece):
            part = text[at : at + piece]
            sock.sendall(b"%x\r\n%b\r\n" % (len(part), part))
        sock.sendall(b"0\r\n\r\n")
        raw = read_to_end(sock)
    assert raw.startswith(b"HTTP/1.1 413 ")
    assert b'"body_too_large"' in raw


def test_a_body_of_unknown_length_that_fits_is_taken(strict: Site) -> None:
    strict.upstream.script = lambda call: call.refuse(401)
    head = {"Transfer_Encoding": "chunked", **JSON}
    with Client(strict.url).send("POST", "/api/chat", **head) as sock:
        sock.sendall(b'b\r\n{"message":\r\n8\r\n"chunk"}\r\n0\r\n\r\n')
        raw = read_to_end(sock)
    assert b'"upstream_auth"' in raw
    assert len(strict.upstream.calls_for("chunk")) == 1


@pytest.mark.parametrize(
    "body", [b"zz\r\n{}\r\n0\r\n\r\n", b"2\r\n{}zz0\r\n\r\n", b"2;\n{}\r\n0\r\n\r\n", b"9\r\n{}"]
)
def test_a_body_whose_chunks_are_none_is_the_clients_fault(strict: Site, body: bytes) -> None:
    head = {"Transfer_Encoding": "chunked", **JSON}
    with Client(strict.url).send("POST", "/api/chat", **head) as sock:
        sock.sendall(body)
        sock.shutdown(socket.SHUT_WR)
        raw = read_to_end(sock)
    assert raw.startswith(b"HTTP/1.1 400 "), raw
    assert b'"invalid_request"' in raw


def test_as_many_answers_as_allowed_run_at_once(strict: Site) -> None:
    """One more is refused for now; when one has ended there is room again."""
    client, first = strict.begin(by_hand, "running 1")
    second = client.ask("running 2")
    for accept in ("application/json", "text/event-stream"):
        reply = client.call("POST", "/api/chat", {"message": "one too many"}, Accept=accept)
        assert (reply.status, reply.error["code"]) == (503, "too_many_answers")
        assert int(reply.headers["Retry-After"]) >= 1
    assert strict.upstream.calls_for("one too many") == []
    client.call("POST", first["stop"])
    poll(ended(client, first))
    third = poll(lambda: _asked(client, "running 3"))
    for answer in (second, third):
        client.call("POST", answer["stop"])
        poll(ended(client, answer))


def _asked(client: Client, message: str) -> dict[str, object] | None:
    reply = client.call("POST", "/api/chat", {"message": message})
    body: dict[str, object] = reply.json
    return body if reply.status == 202 else None


def private_kilobytes(pid: int) -> int:
    """Memory that the process shares with nobody."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = [line.split()[1] for line in lines if line.startswith(("Private_", "Swap:"))]
    return sum(map(int, sizes))


def test_500_idle_followers_cost_little_and_the_next_visitor_is_served(
    site: Site, record_property: Callable[[str, object], None]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    client, answer = site.begin(by_hand, "followed by many")
    call = site.upstream.call("followed by many")
    call.head()
    with ExitStack() as open_sockets:

        def follow(count: int) -> None:
            for _ in range(count):
                open_sockets.enter_context(client.send("GET", answer["events"]))

        follow(WARM_UP)
        site.wait_for_readers(WARM_UP)
        before = private_kilobytes(site.worker)
        follow(FOLLOWERS)
        site.wait_for_readers(WARM_UP + FOLLOWERS, 30)
        each = (private_kilobytes(site.worker) - before) / FOLLOWERS
        record_property("KB per idle follower", f"{each:.1f}")
        asked_at = time.monotonic()
        assert site.visitor().get("/").status == 200
        assert Client(site.url).get("/healthz").status == 200
        record_property("three requests beside them, s", f"{time.monotonic() - asked_at:.3f}")
        assert each < KB_PER_FOLLOWER
        call.text("To all of you.")
        call.finish()
        poll(ended(client, answer))
    site.wait_for_readers(0)


def test_readers_that_leave_in_a_crowd_are_all_noticed(site: Site) -> None:
    client, answer = site.begin(by_hand, "crowd")
    call = site.upstream.call("crowd")
    call.head()
    socks = [client.send("GET", answer["events"]) for _ in range(100)]
    site.wait_for_readers(100)
    for number, sock in enumerate(socks):
        reset(sock) if number % 2 else sock.close()
    site.wait_for_readers(0)
    call.finish()
    poll(ended(client, answer))
