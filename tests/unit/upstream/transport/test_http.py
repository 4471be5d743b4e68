"""What both transports promise about HTTP, against servers that say exactly what the test wants."""

import gzip
import json
import socket
import threading
import zlib

import httpx2
import openai
import pytest

from chatapp.upstream.transport import FastTransport, StockTransport
from tests.support.raw_upstreams import (
    CHUNKED,
    HEAD,
    WAIT,
    Outcome,
    Peer,
    authority,
    chunk,
    client_context,
    full_backlog,
    server_context,
    serving,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(params=[StockTransport, FastTransport])
def transport(request: pytest.FixtureRequest):
    with request.param(ssl_context=client_context()) as transport:
        yield transport


@pytest.fixture
def client(transport):
    with httpx2.Client(transport=transport, timeout=WAIT) as client:
        yield client


def answer(*parts: bytes, seen: list[bytes] | None = None, reset: bool = False):
    """A handler: for each request send these parts; then close."""

    def handle(peer: Peer) -> None:
        request = peer.read_request()
        if seen is not None:
            seen.append(request)
        peer.send(*parts)
        if reset:
            peer.reset()

    return handle


@pytest.mark.parametrize(
    ("response", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (CHUNKED + chunk(b"hel") + chunk(b"lo") + b"0\r\n\r\n", b"hello"),
        (CHUNKED + b"3;ext=1\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: 1\r\n\r\n", b"hello"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK, b"ok"),
        (OK + b"what nobody asked for", b"ok"),
        (OK + b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", b"ok"),
    ],
)
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "bytewise"])
def test_every_framing_gives_the_body(client, response, body, cut):
    parts = [response[i : i + 1] for i in range(len(response))] if cut else [response]
    with serving(answer(*parts)) as server:
        response = client.get(server.url)
        assert response.content == body
        assert "link" not in response.headers


def test_a_response_to_head_has_no_body(client):
    with serving(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")) as server:
        response = client.head(server.url)
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["content-length"] == "5"


def test_headers_arrive_as_they_were_sent(client):
    head = (
        b"HTTP/1.1 418 I'm a Teapot\r\nSet-Cookie: a=1\r\nX-Empty:\r\nX-Spaces:  a  b \t\r\n"
        b"Set-Cookie: b=2\r\nX-Latin: \xe4\r\nContent-Length: 0\r\n\r\n"
    )
    with serving(answer(head)) as server:
        response = client.get(server.url)
    assert response.status_code == 418
    assert response.reason_phrase == "I'm a Teapot"
    assert response.http_version == "HTTP/1.1"
    assert response.headers.raw == [
        (b"Set-Cookie", b"a=1"),
        (b"X-Empty", b""),
        (b"X-Spaces", b"a  b"),
        (b"Set-Cookie", b"b=2"),
        (b"X-Latin", b"\xe4"),
        (b"Content-Length", b"0"),
    ]


def test_the_request_arrives_as_it_was_made(client):
    seen: list[bytes] = []
    with serving(answer(OK, seen=seen)) as server:
        client.post(f"{server.url}/a%20b?q=%C3%A4", content=b"x" * 200_000, headers={"X-Y": "z"})
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /a%20b?q=%C3%A4 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nX-Y: z" in head
    assert b"\r\nContent-Length: 200000" in head
    assert body == b"x" * 200_000


def test_a_streamed_request_body_is_sent_in_chunks(client):
    seen: list[bytes] = []
    with serving(answer(OK, seen=seen)) as server:
        client.post(server.url, content=iter([b"hel", b"", b"lo", b"x" * 100_000]))
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert b"\r\nTransfer-Encoding: chunked" in head
    assert body == chunk(b"hel") + chunk(b"lo") + chunk(b"x" * 100_000) + b"0\r\n\r\n"


@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "a\n", "a\0"])
def test_a_header_that_would_break_the_request_is_refused(client, value):
    with serving(answer(OK)) as server, pytest.raises(httpx2.LocalProtocolError):
        client.get(server.url, headers={"X-Key": value})


def test_each_piece_is_handed_on_before_the_next_is_sent(client):
    go_on = threading.Semaphore(0)

    def handle(peer: Peer) -> None:
        peer.read_request()
        peer.send(CHUNKED)
        for number in range(5):
            peer.send(chunk(b"data: %d\n\n" % number))
            assert go_on.acquire(timeout=WAIT)
        peer.send(b"0\r\n\r\n")

    with serving(handle) as server, client.stream("GET", server.url) as response:
        pieces = []
        for piece in response.iter_bytes():
            pieces.append(piece)
            go_on.release()
    assert pieces == [b"data: %d\n\n" % number for number in range(5)]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_pieces_are_handed_on_before_the_next_is_sent(client, encoding):
    go_on = threading.Semaphore(0)
    wbits = 31 if encoding == "gzip" else zlib.MAX_WBITS

    def handle(peer: Peer) -> None:
        assert encoding.encode() in peer.read_request().lower()
        peer.send(HEAD, b"Content-Encoding: %s\r\n" % encoding.encode())
        peer.send(b"Transfer-Encoding: chunked\r\n\r\n")
        packer = zlib.compressobj(wbits=wbits)
        for number in range(3):
            data = packer.compress(b"data: %d\n\n" % number) + packer.flush(zlib.Z_SYNC_FLUSH)
            peer.send(chunk(data))
            assert go_on.acquire(timeout=WAIT)
        peer.send(chunk(packer.flush()), b"0\r\n\r\n")

    with serving(handle) as server, client.stream("GET", server.url) as response:
        text = b""
        for number, piece in enumerate(response.iter_bytes()):
            text += piece
            assert text.count(b"data:") == number + 1
            go_on.release()
    assert text == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


def test_the_raw_body_is_what_was_sent_before_decoding(client):
    packed = gzip.compress(b"hello")
    parts = (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", packed)
    with serving(answer(parts[0] % len(packed), packed)) as server:
        with client.stream("GET", server.url) as response:
            body = response.extensions["raw_body"]
            pieces = b""
            while data := body.read():
                pieces += data
        assert pieces == packed
        assert body.read() == b""


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ([], httpx2.RemoteProtocolError),
        ([b"HTTP/1.1 200 OK\r\nContent-"], httpx2.RemoteProtocolError),
        ([b"nonsense\r\n\r\n"], httpx2.RemoteProtocolError),
        ([b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"], httpx2.RemoteProtocolError),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"], httpx2.RemoteProtocolError),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"], httpx2.RemoteProtocolError),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx"], httpx2.RemoteProtocolError),
        ([b"HTTP/1.1 101 Switching Protocols\r\n\r\n"], httpx2.RemoteProtocolError),
        ([CHUNKED, chunk(b"hel")], httpx2.RemoteProtocolError),
        ([CHUNKED, b"zz\r\n"], httpx2.RemoteProtocolError),
        ([CHUNKED, b"3\r\nhelXX"], httpx2.RemoteProtocolError),
        ([b"HTTP/1.1 200 OK\r\n", b"X-Long: " + b"x" * 120_000], httpx2.RemoteProtocolError),
    ],
)
def test_a_response_that_breaks_the_protocol_is_an_error(client, parts, error):
    with serving(answer(*parts)) as server, pytest.raises(error):
        client.get(server.url)


def test_what_came_before_the_fault_is_handed_on(client):
    with serving(answer(CHUNKED + chunk(b"hel") + chunk(b"lo") + b"zz\r\n")) as server:
        got: list[bytes] = []
        with client.stream("GET", server.url) as response:
            pieces = map(got.append, response.iter_bytes())
            with pytest.raises(httpx2.RemoteProtocolError):
                list(pieces)
    assert b"".join(got) == b"hello"


def test_a_reset_before_the_head_is_a_read_error(client):
    with serving(answer(reset=True)) as server, pytest.raises(httpx2.ReadError):
        client.post(server.url)


def test_a_reset_in_the_body_is_a_read_error(client):
    go_on = threading.Event()

    def handle(peer: Peer) -> None:
        peer.read_request()
        peer.send(CHUNKED, chunk(b"hello"))
        go_on.wait(WAIT)
        peer.reset()

    with serving(handle) as server, client.stream("GET", server.url) as response:
        pieces = response.iter_bytes()
        assert next(pieces) == b"hello"
        go_on.set()
        with pytest.raises(httpx2.ReadError):
            next(pieces)


@pytest.mark.parametrize("sent", [[], [b"HTTP/1.1 "], [CHUNKED, chunk(b"hello")]])
def test_silence_is_a_read_timeout(client, sent):
    def handle(peer: Peer) -> None:
        peer.read_request()
        peer.send(*sent)
        peer.wait_until_closed()

    timeout = httpx2.Timeout(WAIT, read=0.05)
    with serving(handle) as server, pytest.raises(httpx2.ReadTimeout):
        client.get(server.url, timeout=timeout)


def test_a_peer_that_takes_no_bytes_is_a_write_timeout(client):
    done = threading.Event()
    timeout = httpx2.Timeout(WAIT, write=0.05)
    with serving(lambda _: done.wait(WAIT)) as server:
        with pytest.raises(httpx2.WriteTimeout):
            client.post(server.url, content=b"x" * 50_000_000, timeout=timeout)
        done.set()


def test_a_refusal_before_the_whole_request_is_read_is_still_a_response(client):
    def handle(peer: Peer) -> None:
        peer.fill()
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        peer.sock.shutdown(socket.SHUT_WR)
        peer.wait_until_closed()

    with serving(handle) as server:
        response = client.post(server.url, content=b"x" * 5_000_000)
    assert response.status_code == 413


def test_an_address_that_does_not_answer_is_a_connect_timeout(client):
    with full_backlog() as port, pytest.raises(httpx2.ConnectTimeout):
        client.get(f"http://127.0.0.1:{port}", timeout=httpx2.Timeout(WAIT, connect=0.05))


def test_a_handshake_that_hangs_is_a_connect_timeout(client):
    with (
        serving(lambda peer: peer.wait_until_closed(), plain=True) as server,
        pytest.raises(httpx2.ConnectTimeout),
    ):
        client.get(server.url, timeout=httpx2.Timeout(WAIT, connect=0.05))


def test_nobody_listening_is_a_connect_error(client):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(httpx2.ConnectError):
        client.get(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("host", ["does-not-exist.invalid", "x" * 64 + ".invalid"])
def test_an_unknown_name_is_a_connect_error(client, host):
    with pytest.raises(httpx2.ConnectError):
        client.get(f"http://{host}/")


def test_another_scheme_is_unsupported(client):
    with pytest.raises(httpx2.UnsupportedProtocol):
        client.get("ftp://127.0.0.1/")


def test_all_addresses_of_a_name_are_tried(client, monkeypatch):
    with serving(answer(OK)) as server:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            closed = listener.getsockname()[1]
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        addresses = [(*kind, ("127.0.0.1", port)) for port in (closed, server.port)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        assert client.get(f"http://two.example:{server.port}").text == "ok"


def test_https_sends_the_name_offers_http_1_1_and_checks_the_certificate(client):
    names: list[str | None] = []
    protocols: list[str | None] = []

    def handle(peer: Peer) -> None:
        protocols.append(peer.sock.selected_alpn_protocol())
        peer.read_request()
        peer.send(OK)

    context = server_context("localhost")
    context.sni_callback = lambda _sock, name, _context: names.append(name)
    with serving(handle, context) as server:
        assert client.get(server.url.replace("127.0.0.1", "localhost")).text == "ok"
        with pytest.raises(httpx2.ConnectError, match="certificate"):
            client.get(server.url)
    assert names[0] == "localhost"
    assert protocols == ["http/1.1"]


def test_a_certificate_of_an_unknown_authority_is_refused(transport):
    with serving(answer(OK), server_context("127.0.0.1")) as server:
        stranger = type(transport)(ssl_context=httpx2.create_ssl_context())
        with httpx2.Client(transport=stranger) as client, pytest.raises(httpx2.ConnectError):
            client.get(server.url)


def test_the_trust_is_the_systems_when_no_context_is_given(transport, tmp_path, monkeypatch):
    authority().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with (
        serving(answer(OK), server_context("127.0.0.1")) as server,
        httpx2.Client(transport=type(transport)()) as client,
    ):
        assert client.get(server.url).text == "ok"


def test_a_response_closed_early_ends_the_connection(client):
    closed = threading.Event()

    def handle(peer: Peer) -> None:
        peer.read_request()
        peer.send(CHUNKED, chunk(b"hello"))
        peer.wait_until_closed()
        closed.set()

    with serving(handle) as server:
        with client.stream("GET", server.url):
            pass
        assert closed.wait(WAIT)


def test_many_threads_share_one_client(client):
    def handle(peer: Peer) -> None:
        while request := peer.read_request():
            peer.send(CHUNKED, chunk(request.split(b" ")[1]), b"0\r\n\r\n")

    def work(worker: int) -> bool:
        return all(
            client.get(f"{server.url}/{worker}/{turn}").text == f"/{worker}/{turn}"
            for turn in range(20)
        )

    with serving(handle) as server:
        outcomes = [Outcome(lambda worker=worker: work(worker)) for worker in range(8)]
        assert all(outcome.result() for outcome in outcomes)


def completion(text: str) -> bytes:
    return (
        b"data: "
        + json.dumps(
            {
                "id": "1",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
            }
        ).encode()
        + b"\n\n"
    )


def test_the_sdk_streams_through_the_transport(client):
    parts = [chunk(completion(text)) for text in ("Hel", "lo")]
    end = chunk(b"data: [DONE]\n\n")
    with serving(answer(CHUNKED, *parts, end, b"0\r\n\r\n")) as server:
        api = openai.OpenAI(api_key="k", base_url=server.url, http_client=client, max_retries=0)
        stream = api.chat.completions.create(model="m", messages=[], stream=True)
        assert [piece.choices[0].delta.content for piece in stream] == ["Hel", "lo"]


def test_the_sdk_gives_access_to_the_raw_body(client):
    with serving(answer(CHUNKED, chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n")) as server:
        api = openai.OpenAI(api_key="k", base_url=server.url, http_client=client, max_retries=0)
        response = api.chat.completions.with_raw_response.create(
            model="m", messages=[], stream=True
        )
        assert response.http_response.extensions["raw_body"].read() == b"data: [DONE]\n\n"
        response.http_response.close()


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ([], openai.APIConnectionError),
        (
            [b"HTTP/1.1 429 No\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n"],
            openai.RateLimitError,
        ),
        ([b"HTTP/1.1 401 No\r\n\r\n{}"], openai.AuthenticationError),
        ([CHUNKED, chunk(completion("a"))], openai.APIConnectionError),
    ],
)
def test_the_sdk_raises_its_own_errors(client, parts, error):
    with serving(answer(*parts)) as server:
        api = openai.OpenAI(api_key="k", base_url=server.url, http_client=client, max_retries=0)
        with pytest.raises(error):
            list(api.chat.completions.create(model="m", messages=[], stream=True))


def test_the_sdk_raises_its_timeout(client):
    with serving(lambda peer: peer.wait_until_closed()) as server:
        api = openai.OpenAI(
            api_key="k", base_url=server.url, http_client=client, max_retries=0, timeout=0.05
        )
        with pytest.raises(openai.APITimeoutError):
            api.chat.completions.create(model="m", messages=[], stream=True)
