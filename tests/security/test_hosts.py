"""A name that somebody else has pointed at this machine reads nothing (DNS rebinding)."""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.middleware.proxy_fix import ProxyFix

from chatapp.errors import ConfigError
from chatapp.settings import Settings
from tests.support.client import Client
from tests.support.embedded_app import host, mounted, refused
from tests.support.hypothesis_settings import FEW
from tests.support.proxies import proxy
from tests.support.shared_server import Site
from tests.support.upstream import FakeUpstream

OWN = ["localhost", "LocalHost", "127.0.0.1", "[::1]"]
PATHS = ["", "c/abc", "api/page", "api/models", "api/conversations", "assets/chat.js", "metrics"]
NAMES = st.from_regex(r"[a-z0-9-]{1,12}(\.[a-z0-9-]{1,12}){0,3}\.?(:[0-9]{0,5})?", fullmatch=True)
NEAR = st.sampled_from(
    [
        "localhost.evil.example",
        "evil.localhost",
        "evil.example:localhost",
        "localhost@evil.example",
        "evil.example#localhost",
        "localhost,evil.example",
        "localhost evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.2",
        "0.0.0.0",
        "192.168.0.7:8000",
        "[::2]",
        "[::1",
        "::1",
        "localhost:80:80",
        "localhost:evil",
        "",
    ]
)


@pytest.fixture
def app(tmp_path: Path, upstream: FakeUpstream) -> Flask:
    app = host(tmp_path)
    mounted(app, upstream.url)
    return app


def asked(app: Flask, name: str, path: str = "api/conversations", sender: str = "127.0.0.1") -> Any:
    environ = {"HTTP_HOST": name, "REMOTE_ADDR": sender}
    return app.test_client().get(f"/chat/{path}", environ_overrides=environ)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("port", ["", ":80", ":8000", ":65535"])
@pytest.mark.parametrize("sender", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_the_machine_s_own_names_are_answered(
    app: Flask, name: str, port: str, sender: str
) -> None:
    assert asked(app, name + port, sender=sender).status_code == 200


@pytest.mark.parametrize("sender", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_other_names_are_refused_everything(app: Flask, sender: str) -> None:
    for path in PATHS:
        response = asked(app, "rebound.example:8000", path, sender)
        assert refused(response) == (403, "wrong_host"), path
        assert "CHATAPP_HOSTS" in response.json["error"]["message"]
        assert "CHATAPP_TRUSTED_PROXIES" in response.json["error"]["message"]
        assert "Set-Cookie" not in response.headers
    environ = {"HTTP_HOST": "rebound.example", "REMOTE_ADDR": sender}
    for method in ("POST", "OPTIONS", "HEAD"):
        response = app.test_client().open(
            "/chat/api/chat" if method != "HEAD" else "/chat/",
            method=method,
            json={"message": "a"},
            environ_overrides=environ,
        )
        assert response.status_code == 403


@FEW
@given(st.one_of(NAMES, NEAR))
def test_whatever_the_name_is(given_app: Flask, name: str) -> None:
    own = re.fullmatch(r"(localhost|127\.0\.0\.1)(:[0-9]*)?", name)
    expected = 200 if own else 403
    assert asked(given_app, name, "healthz").status_code == expected


@pytest.fixture(scope="module")
def given_app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    app = host(tmp_path_factory.mktemp("host"))
    mounted(app, "http://127.0.0.1:9/v1")
    return app


def test_names_that_are_listed_are_answered(tmp_path: Path, upstream: FakeUpstream) -> None:
    """And from then on no others are, whoever asks, except addresses."""
    app = host(tmp_path, CHATAPP_HOSTS="chat.example, Other.Example:8080")
    mounted(app, upstream.url)
    for sender in ("127.0.0.1", "192.0.2.7", ""):
        for name in ("chat.example", "CHAT.example:81", "other.example", "localhost"):
            assert asked(app, name, sender=sender).status_code == 200
        for name in ("evil.example", "chat.example.evil.example", "evil-chat.example"):
            assert refused(asked(app, name, sender=sender)) == (403, "wrong_host")
    assert asked(app, "192.0.2.1:8000", sender="192.0.2.7").status_code == 200


@pytest.mark.parametrize("sender", ["192.0.2.7", "10.1.2.3", "2001:db8::1", ""])
def test_from_elsewhere_any_name_will_do(app: Flask, sender: str) -> None:
    """The operator chose to be reached; a Unix socket's client has no address."""
    assert asked(app, "chat.example", sender=sender).status_code == 200


def test_a_trusted_proxy_may_pass_any_name_on(app: Flask) -> None:
    app.wsgi_app = ProxyFix(app.wsgi_app, x_host=1)  # type: ignore[method-assign]
    assert asked(app, "chat.example").status_code == 200


@pytest.mark.parametrize("wrong", ["https://chat.example", "chat.example/x", "*", "a b", "é"])
def test_what_is_no_name_is_refused_at_the_start(wrong: str) -> None:
    with pytest.raises(ConfigError, match="CHATAPP_HOSTS"):
        Settings.load({"CHATAPP_HOSTS": wrong}, {})


class TestServers:
    """Under gunicorn, and behind the documented nginx, which comes from the same machine."""

    def test_alone(self, start_site: Callable[..., Site]) -> None:
        site = start_site()
        client = Client(site.url)
        assert client.get("/api/conversations").status == 200
        for path in ("/", "/api/conversations", "/api/events"):
            forwarded = {"X_Forwarded_Host": "localhost", "X_Forwarded_For": "192.0.2.1"}
            for headers in ({}, forwarded):
                reply = client.get(path, Host="rebound.example", **headers)
                assert (reply.status, reply.error["code"]) == (403, "wrong_host")

    def test_behind_nginx(self, start_site: Callable[..., Site], tmp_path: Path) -> None:
        trusting, alone = start_site(CHATAPP_TRUSTED_PROXIES="1"), start_site()
        look = functools.partial(Client.get, path="/api/conversations", Host="chat.example")
        with proxy("nginx", trusting.server, tmp_path, is_tls=False) as url:
            assert look(Client(url)).status == 200
        with proxy("nginx", alone.server, tmp_path, is_tls=False) as url:
            assert look(Client(url)).error["code"] == "wrong_host"
