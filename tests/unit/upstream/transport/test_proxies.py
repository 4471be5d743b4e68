"""Proxies come from the environment, by httpx2's rules, and both transports go through them."""

import base64
import os
import socket
import threading

import httpx2
import pytest

from chatapp.upstream.transport import FastTransport, Proxies, StockTransport
from tests.support.raw_upstreams import WAIT, Peer, client_context, server_context, serving

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CREDENTIALS = b"Proxy-Authorization: Basic " + base64.b64encode(b"us er:pass")


@pytest.fixture(autouse=True)
def no_proxies_from_outside(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(params=[StockTransport, FastTransport])
def make_client(request: pytest.FixtureRequest):
    return lambda: httpx2.Client(
        transport=request.param(ssl_context=client_context()), timeout=WAIT
    )


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("*", "http://a.example", True),
        ("b.example,*", "http://a.example", True),
        ("a.example", "http://a.example", True),
        ("a.example", "http://x.a.example", True),
        ("a.example", "http://xa.example", False),
        ("A.Example", "http://a.example", True),
        (".a.example", "http://a.example", False),
        (".a.example", "http://x.a.example", True),
        ("*.a.example", "http://x.a.example", True),
        ("*.a.example", "http://a.example", False),
        (" b.example , a.example ", "http://a.example", True),
        ("a.example:81", "http://a.example:81", True),
        ("a.example:81", "http://a.example:82", False),
        ("https://a.example", "http://a.example", False),
        ("http://a.example", "http://a.example", True),
        ("http://a.example", "http://x.a.example", False),
        ("localhost", "http://localhost:80", True),
        ("localhost", "http://x.localhost", False),
        ("127.0.0.1", "http://127.0.0.1:9", True),
        ("127.0.0.1", "http://127.0.0.11", False),
        ("10.0.0.0/8", "http://10.2.3.4", True),
        ("10.0.0.0/8", "http://11.2.3.4", False),
        ("10.0.0.0/8", "http://a.example", False),
        ("::1", "http://[::1]:80", True),
        ("[::1]", "http://[::1]", True),
        ("fd00::/8", "http://[fd00::2]", True),
        ("fd00::/8", "http://[::2]", False),
        ("", "http://a.example", False),
        ("a.example/path", "http://a.example", False),
    ],
)
def test_no_proxy(monkeypatch, no_proxy, url, direct):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:1")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    proxy = Proxies.from_environment().proxy_for(httpx2.URL(url))
    assert (proxy is None) == direct


def test_the_proxy_of_the_scheme_wins_over_all(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "all.example:1")
    monkeypatch.setenv("https_proxy", "http://secure.example:2")
    proxies = Proxies.from_environment()
    assert proxies.proxy_for(httpx2.URL("http://a.example")).url == "http://all.example:1"
    assert proxies.proxy_for(httpx2.URL("https://a.example")).url == "http://secure.example:2"


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "https://127.0.0.1:1"])
def test_a_proxy_that_is_not_spoken_is_an_error_not_a_way_around_it(
    make_client, monkeypatch, proxy
):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with make_client() as client, pytest.raises(httpx2.UnsupportedProtocol, match="NO_PROXY"):
        client.get("https://127.0.0.1:1/")


@pytest.mark.parametrize("tls", [False, True], ids=["http proxy", "https proxy"])
def test_http_goes_to_the_proxy_in_the_absolute_form(make_client, monkeypatch, tls):
    seen: list[bytes] = []

    def handle(peer: Peer) -> None:
        seen.append(peer.read_request())
        peer.send(OK)

    with serving(handle, server_context("127.0.0.1") if tls else None) as proxy:
        url = proxy.url.replace("://", "://us%20er:pass@")
        monkeypatch.setenv("HTTP_PROXY", url)
        with make_client() as client:
            assert client.get("http://a.example:81/path?q=1").text == "ok"
    lines = seen[0].split(b"\r\n")
    assert lines[0] == b"GET http://a.example:81/path?q=1 HTTP/1.1"
    assert b"Host: a.example:81" in lines
    assert CREDENTIALS in lines


def tunnel(seen: list[bytes], port: int):
    """A proxy that connects every CONNECT to one port here."""

    def handle(peer: Peer) -> None:
        seen.append(peer.read_request())
        with socket.create_connection(("127.0.0.1", port), WAIT) as upstream:
            peer.send(b"HTTP/1.1 200 Connected\r\nX-Proxy: 1\r\n\r\n")
            back = threading.Thread(target=copy, args=(upstream, peer.sock))
            back.start()
            copy(peer.sock, upstream)
            back.join(WAIT)

    return handle


def copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        for sock in (source, sink):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def test_https_goes_through_a_tunnel_that_the_proxy_cannot_read(make_client, monkeypatch):
    seen: list[bytes] = []
    requests: list[bytes] = []

    def handle(peer: Peer) -> None:
        while request := peer.read_request():
            requests.append(request)
            peer.send(OK)

    with (
        serving(handle, server_context("a.example")) as upstream,
        serving(tunnel(seen, upstream.port)) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", "://us%20er:pass@"))
        with make_client() as client:
            assert client.get("https://a.example/path").text == "ok"
    lines = seen[0].split(b"\r\n")
    assert lines[0] == b"CONNECT a.example:443 HTTP/1.1"
    assert CREDENTIALS in lines
    assert requests[0].startswith(b"GET /path HTTP/1.1\r\nHost: a.example\r\n")
    assert b"Proxy-Authorization" not in requests[0]


def test_a_refused_tunnel_is_a_proxy_error(make_client, monkeypatch):
    def handle(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")

    with serving(handle) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with make_client() as client, pytest.raises(httpx2.ProxyError, match="407 Who are you"):
            client.get("https://a.example/")


def test_a_tunnel_is_kept_for_its_upstream_only(monkeypatch):
    seen: list[bytes] = []

    def handle(peer: Peer) -> None:
        while peer.read_request():
            peer.send(OK)

    with (
        serving(handle, server_context("a.example", "b.example")) as upstream,
        serving(tunnel(seen, upstream.port)) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        transport = FastTransport(ssl_context=client_context())
        with httpx2.Client(transport=transport, timeout=WAIT) as client:
            for host in ("a.example", "b.example", "a.example", "b.example"):
                assert client.get(f"https://{host}/").text == "ok"
    hosts = [request.split(b"\r\n")[0].split()[1] for request in seen]
    assert hosts == [b"a.example:443", b"b.example:443"]
