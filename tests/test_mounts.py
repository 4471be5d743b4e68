"""Wherever the chat is mounted, every address that the page and the API name can be followed."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin

import pytest
from flask import Flask, url_for

from chatapp import ChatApp
from tests.client import Client, Stream, joined
from tests.servers import Gunicorn
from tests.upstream import FakeUpstream, by_hand

HOST = """
from flask import Flask, url_for
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from chatapp import ChatApp


def create(prefix, **config):
    app = Flask(__name__)
    app.config.update(config)
    ChatApp(app, url_prefix=prefix)

    @app.get("/where")
    def where():
        return url_for("chatapp.page")

    return app


at_root = create(None)
at_chat = create("/chat")
deep = create("/a/b/c")
proxied = create("/chat")
proxied.wsgi_app = ProxyFix(proxied.wsgi_app, x_prefix=1)
with_root = create("/chat", APPLICATION_ROOT="/shop", SESSION_COOKIE_PATH="/shop")
dispatched = DispatcherMiddleware(NotFound(), {"/shop/inner": create("/chat")})
"""


@pytest.fixture(autouse=True)
def host(tmp_path: Path) -> None:
    (tmp_path / "mounted.py").write_text(HOST)


class Mounted:
    """A chat, reached as a browser does."""

    def __init__(self, server: Gunicorn, mount: str, prefix: str = "", **headers: str) -> None:
        self.client = Client(server.url)
        self.mount = mount
        self.prefix = prefix
        """What a proxy takes off before it hands the request on."""
        self.headers = headers

    def path(self, url: str) -> str:
        """What the server gets when a browser asks for this."""
        assert url.startswith(f"{self.mount}/"), (url, self.mount)
        return url.removeprefix(self.prefix)

    def body(self, url: str) -> bytes:
        reply = self.client.get(self.path(url), **self.headers)
        assert reply.status == 200, (url, reply.status, reply.body)
        return reply.body

    def follow(self, url: str) -> Stream:
        return self.client.stream(self.path(url), **self.headers)

    def post(self, url: str, body: object = None) -> dict[str, object]:
        reply = self.client.call("POST", self.path(url), body, **self.headers)
        assert reply.status == 202, (url, reply.status, reply.body)
        result: dict[str, object] = reply.json
        return result


def walk(mounted: Mounted, upstream: FakeUpstream) -> None:
    """Be a browser at this chat: each address is used as it was given."""
    page_url = f"{mounted.mount}/"
    reply = mounted.client.get(mounted.path(page_url), **mounted.headers)
    assert reply.status == 200
    assert f"Path={mounted.mount}/;" in reply.headers["Set-Cookie"]
    page = reply.body.decode()

    linked = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert {name.rpartition(".")[2] for name in linked} >= {"js", "css", "svg"}
    for url in linked:
        body = mounted.body(urljoin(page_url, url))
        for imported in re.findall(rb'from "(\./[^"]+)"', body) if url.endswith(".js") else ():
            mounted.body(urljoin(url, imported.decode()))

    urls = urls_of(mounted, page_url)
    for name in ("page", "conversations", "models"):
        mounted.body(urls[name])
    with mounted.follow(urls["push"]).response as push:
        assert push.status == 200

    answer = mounted.post(urls["chat"], {"message": "hi"})
    events = mounted.follow(str(answer["events"])).all()
    assert joined(events) == "Hello world."
    assert str(answer["events"]).startswith(urls["answers"])
    about = json.loads(mounted.body(urls["answers"] + events[0].data["answer_id"]))
    assert (about["events"], about["stop"]) == (answer["events"], answer["stop"])
    conversation = events[0].data["conversation_id"]
    mounted.body(urls["conversation_page"] + conversation)
    mounted.body(f"{urls['conversations']}/{conversation}")

    upstream.script = by_hand
    running = mounted.post(urls["chat"], {"message": "to be stopped"})
    mounted.post(str(running["stop"]))
    assert mounted.follow(str(running["events"])).all()[-1].data["finish_reason"] == "stopped"
    assert upstream.call("to be stopped").wait_closed()


def urls_of(mounted: Mounted, page_url: str) -> dict[str, str]:
    """The addresses that the page's script is told."""
    box = mounted.body(f"{page_url}api/page").decode()
    found = re.search(r'"urls": (\{[^}]+\})', box.replace("&#34;", '"').replace("&quot;", '"'))
    assert found, box
    urls: dict[str, str] = json.loads(found[1])
    assert all(url.startswith(page_url) for url in urls.values())
    return urls


Serve = Callable[..., Gunicorn]


@pytest.mark.parametrize(
    ("app", "mount"), [("at_root", ""), ("at_chat", "/chat"), ("deep", "/a/b/c")]
)
def test_in_a_host_application(
    serve: Serve, upstream: FakeUpstream, tmp_path: Path, app: str, mount: str
) -> None:
    server = serve("--pythonpath", str(tmp_path), app=f"mounted:{app}")
    assert Client(server.url).get("/where").body.decode() == f"{mount}/"
    walk(Mounted(server, mount), upstream)


def test_the_address_without_its_slash_leads_to_the_page(serve: Serve, tmp_path: Path) -> None:
    server = serve("--pythonpath", str(tmp_path), app="mounted:at_chat")
    reply = Client(server.url).get("/chat")
    assert reply.status == 308
    assert reply.headers["Location"].endswith("/chat/")


def test_alone_at_the_root(serve: Serve, upstream: FakeUpstream) -> None:
    walk(Mounted(serve(), ""), upstream)


def test_alone_behind_a_proxy_that_strips_the_path(serve: Serve, upstream: FakeUpstream) -> None:
    server = serve(CHATAPP_TRUSTED_PROXIES="1")
    walk(Mounted(server, "/ai/chat", "/ai/chat", X_Forwarded_Prefix="/ai/chat"), upstream)


def test_a_prefix_that_nobody_was_told_to_trust_changes_nothing(
    serve: Serve, upstream: FakeUpstream
) -> None:
    forged = {"X_Forwarded_Prefix": "/evil", "X_Forwarded_Host": "evil.example"}
    walk(Mounted(serve(), "", **forged), upstream)


def test_a_trusted_proxy_is_the_last_one_only(serve: Serve) -> None:
    """What the client itself has sent stands before it, and does not count."""
    server = serve(CHATAPP_TRUSTED_PROXIES="1")
    headers = {"X_Forwarded_Prefix": "/evil, /ai", "X_Forwarded_Proto": "http, https"}
    cookie = Client(server.url).get("/", **headers).headers["Set-Cookie"]
    assert "Path=/ai/;" in cookie
    assert "Secure" in cookie


def test_in_a_host_behind_a_proxy_that_strips_the_path(
    serve: Serve, upstream: FakeUpstream, tmp_path: Path
) -> None:
    server = serve("--pythonpath", str(tmp_path), app="mounted:proxied")
    walk(Mounted(server, "/shop/chat", "/shop", X_Forwarded_Prefix="/shop"), upstream)


def test_below_a_dispatcher(serve: Serve, upstream: FakeUpstream, tmp_path: Path) -> None:
    server = serve("--pythonpath", str(tmp_path), app="mounted:dispatched")
    walk(Mounted(server, "/shop/inner/chat"), upstream)


def test_in_a_host_with_an_application_root(
    serve: Serve, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """The server knows the root, too, as Flask wants it: gunicorn by SCRIPT_NAME."""
    server = serve("--pythonpath", str(tmp_path), app="mounted:with_root", SCRIPT_NAME="/shop")
    walk(Mounted(server, "/shop/chat"), upstream)


def test_links_outside_of_a_request_have_the_application_root(
    tmp_path: Path,
) -> None:
    app = Flask("tests.embedded", instance_path=str(tmp_path))
    app.config.update(APPLICATION_ROOT="/shop", SERVER_NAME="shop.example")
    ChatApp(app, url_prefix="/chat")
    with app.app_context():
        assert url_for("chatapp.page", _external=False) == "/shop/chat/"
    response = app.test_client().get("/chat/")
    assert "Path=/shop/chat/;" in response.headers["Set-Cookie"]
    assert b'"/shop/chat/assets/' in response.data
