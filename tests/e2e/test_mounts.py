"""Wherever the chat is mounted, every address that the page and the API name can be followed."""

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin

import pytest
from flask import Flask, url_for

from chatapp import ChatApp
from tests.support.client import Client, Stream, joined
from tests.support.shared_server import Site
from tests.support.upstream import by_hand, speak

HOSTS = """
import os

from flask import Flask, url_for
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from chatapp import ChatApp


folder = os.environ.pop("CHATAPP_INSTANCE")


def create(name, prefix, **config):
    app = Flask(__name__, instance_path=f"{folder}/{name}")
    app.config.update(config)
    ChatApp(app, url_prefix=prefix)

    @app.get("/where")
    def where():
        return url_for("chatapp.page")

    return app


proxied = create("proxied", "/chat")
proxied.wsgi_app = ProxyFix(proxied.wsgi_app, x_prefix=1)
HOSTS = {
    "root.example": create("root", None),
    "chat.example": create("chat", "/chat"),
    "deep.example": create("deep", "/a/b/c"),
    "proxied.example": proxied,
    "inner.example": DispatcherMiddleware(NotFound(), {"/shop/inner": create("inner", "/chat")}),
}


def by_name(environ, start_response):
    return HOSTS[environ["HTTP_HOST"]](environ, start_response)


with_root = create("shop", "/chat", APPLICATION_ROOT="/shop", SESSION_COOKIE_PATH="/shop")
"""


@pytest.fixture(scope="module")
def start_hosts(
    tmp_path_factory: pytest.TempPathFactory, start_site: Callable[..., Site]
) -> Callable[..., Site]:
    folder = tmp_path_factory.mktemp("hosts")
    (folder / "mounted.py").write_text(HOSTS)
    return functools.partial(start_site, "--pythonpath", str(folder))


@pytest.fixture(scope="module")
def hosts(start_hosts: Callable[..., Site]) -> Site:
    """Applications with a chat, each at a name of its own."""
    names = ("root", "chat", "deep", "proxied", "inner")
    listed = ",".join(f"{name}.example" for name in names)
    return start_hosts(app="mounted:by_name", CHATAPP_HOSTS=listed)


@pytest.fixture(scope="module")
def alone(start_site: Callable[..., Site]) -> Site:
    """`wsgi:app` as it is."""
    return start_site()


@pytest.fixture(scope="module")
def behind_a_proxy(start_site: Callable[..., Site]) -> Site:
    """`wsgi:app`, told to trust the proxy in front of it."""
    return start_site(CHATAPP_TRUSTED_PROXIES="1")


class Mounted:
    """A chat, reached as a browser does."""

    def __init__(self, site: Site, mount: str, prefix: str = "", **headers: str) -> None:
        self.upstream = site.upstream
        self.client = Client(site.url)
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


IMPORT = re.compile(rb'^(?:import|\}) .*"(\.[^"]+)"|import\("(\.[^"]+)"\)', re.M)


def walk(mounted: Mounted) -> None:
    """Be a browser at this chat: each address is used as it was given."""
    mounted.upstream.script = speak("Hello", " world", ".")
    page_url = f"{mounted.mount}/"
    reply = mounted.client.get(mounted.path(page_url), **mounted.headers)
    assert reply.status == 200
    assert f"Path={mounted.mount}/;" in reply.headers["Set-Cookie"]
    page = reply.body.decode()

    linked = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert {name.rpartition(".")[2] for name in linked} >= {"js", "css", "svg"}
    for url in linked:
        body = mounted.body(urljoin(page_url, url))
        for imported in IMPORT.findall(body) if url.endswith(".js") else ():
            mounted.body(urljoin(url, b"".join(imported).decode()))

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

    mounted.upstream.script = by_hand
    running = mounted.post(urls["chat"], {"message": "to be stopped"})
    mounted.post(str(running["stop"]))
    assert mounted.follow(str(running["events"])).all()[-1].data["finish_reason"] == "stopped"
    assert mounted.upstream.call("to be stopped").wait_closed()


def urls_of(mounted: Mounted, page_url: str) -> dict[str, str]:
    """The addresses that the page's script is told."""
    box = mounted.body(f"{page_url}api/page").decode()
    found = re.search(r'"urls": (\{[^}]+\})', box.replace("&#34;", '"').replace("&quot;", '"'))
    assert found, box
    urls: dict[str, str] = json.loads(found[1])
    assert all(url.startswith(page_url) for url in urls.values())
    return urls


@pytest.mark.parametrize(("name", "mount"), [("root", ""), ("chat", "/chat"), ("deep", "/a/b/c")])
def test_in_a_host_application(hosts: Site, name: str, mount: str) -> None:
    host = f"{name}.example"
    assert Client(hosts.url).get("/where", Host=host).body.decode() == f"{mount}/"
    walk(Mounted(hosts, mount, Host=host))


def test_the_address_without_its_slash_leads_to_the_page(hosts: Site) -> None:
    reply = Client(hosts.url).get("/chat", Host="chat.example")
    assert reply.status == 308
    assert reply.headers["Location"].endswith("/chat/")


def test_in_a_host_behind_a_proxy_that_strips_the_path(hosts: Site) -> None:
    walk(Mounted(hosts, "/shop/chat", "/shop", Host="proxied.example", X_Forwarded_Prefix="/shop"))


def test_below_a_dispatcher(hosts: Site) -> None:
    walk(Mounted(hosts, "/shop/inner/chat", Host="inner.example"))


def test_in_a_host_with_an_application_root(start_hosts: Callable[..., Site]) -> None:
    """The server knows the root, too, as Flask wants it: gunicorn by SCRIPT_NAME."""
    site = start_hosts(app="mounted:with_root", SCRIPT_NAME="/shop")
    walk(Mounted(site, "/shop/chat"))


def test_alone_at_the_root(alone: Site) -> None:
    walk(Mounted(alone, ""))


def test_a_prefix_that_nobody_was_told_to_trust_changes_nothing(alone: Site) -> None:
    forged = {"X_Forwarded_Prefix": "/evil", "X_Forwarded_Host": "evil.example"}
    walk(Mounted(alone, "", **forged))


def test_alone_behind_a_proxy_that_strips_the_path(behind_a_proxy: Site) -> None:
    walk(Mounted(behind_a_proxy, "/ai/chat", "/ai/chat", X_Forwarded_Prefix="/ai/chat"))


def test_a_trusted_proxy_is_the_last_one_only(behind_a_proxy: Site) -> None:
    """What the client itself has sent stands before it, and does not count."""
    headers = {"X_Forwarded_Prefix": "/evil, /ai", "X_Forwarded_Proto": "http, https"}
    cookie = Client(behind_a_proxy.url).get("/", **headers).headers["Set-Cookie"]
    assert "Path=/ai/;" in cookie
    assert "Secure" in cookie


def test_links_outside_of_a_request_have_the_application_root(
    tmp_path: Path,
) -> None:
    app = Flask("tests.support.embedded_app", instance_path=str(tmp_path))
    app.config.update(APPLICATION_ROOT="/shop", SERVER_NAME="shop.example")
    app.config["CHATAPP_HOSTS"] = "shop.example"
    ChatApp(app, url_prefix="/chat")
    with app.app_context():
        assert url_for("chatapp.page", _external=False) == "/shop/chat/"
    response = app.test_client().get("/chat/")
    assert "Path=/shop/chat/;" in response.headers["Set-Cookie"]
    assert b'"/shop/chat/assets/' in response.data
