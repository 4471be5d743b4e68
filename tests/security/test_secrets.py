"""Keys and secrets are seen by nobody: not in words, not in files; and they can be changed."""

import base64
import contextlib
import functools
import logging
import os
import stat
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from chatapp.errors import ChatAppError, ConfigError
from chatapp.settings import Settings
from chatapp.upstream.transport import Cancellation
from tests.support.client import Client
from tests.support.embedded_app import mounted
from tests.support.gunicorn import Gunicorn
from tests.support.hypothesis_settings import FEW
from tests.support.one_chat import OneChat
from tests.support.upstream import FakeUpstream, poll

KEY = "sk-hidden-4f1c9a7be2"
OLD, NEW = "the former secret of this chat", "the secret that it has from now on"
SECRETS = (
    "base_url",
    "azure_endpoint",
    "api_key",
    "azure_api_key",
    "azure_ad_token",
    "secret",
    "database_url",
    "eventlog_url",
    "rate_limit_storage",
)


@contextlib.contextmanager
def hiding() -> Iterator[None]:
    """No error that comes out of it may tell the key."""
    try:
        yield
    except Exception as error:
        told = "".join(traceback.format_exception(error))
        if KEY[9:] in told or KEY[9:] in repr(error):
            pytest.fail(f"It tells the key: {told}")
        raise


class TestWords:
    @pytest.mark.parametrize("field", SECRETS)
    def test_of_the_settings_have_none(self, field: str) -> None:
        settings = Settings(**{field: f"{KEY}://x:{KEY}@y"})
        assert KEY not in repr(settings)
        assert KEY not in f"{settings}"
        assert KEY not in repr(Settings(secret_fallbacks=(KEY,)))

    @FEW
    @given(
        st.sampled_from(["OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN"]),
        st.text(st.characters(max_codepoint=0x2100), min_size=1, max_size=4),
        st.booleans(),
    )
    def test_of_a_refusal_at_the_start_have_none(self, name: str, odd: str, first: bool) -> None:
        """Around a key it is left out, within it is refused."""
        given = f"{odd}{KEY}" if first else f"{KEY[:9]}{odd}{KEY[9:]}"
        with contextlib.suppress(ConfigError), hiding():
            Settings.load({name: given}, {})

    @pytest.mark.parametrize(
        "around", [" {} ", "{}\n", "\ufeff{}", "'{}'", "Bearer {}", "\t{}\r\n"]
    )
    def test_that_were_copied_along_are_left_out(self, around: str) -> None:
        assert Settings.load({"OPENAI_API_KEY": around.format(KEY)}, {}).api_key == KEY

    @pytest.mark.parametrize("name", ["OPENAI_BASE_URL", "AZURE_OPENAI_ENDPOINT"])
    @pytest.mark.parametrize(
        "given",
        [
            "{}",
            "ftp://user:{}@host",
            "https://user:{}@",
            "https://user:{}@[host",
            "https://user:pass/{}@host",
            "https://user:{}@ho st",
            "https://{}:port",
            "https://host/v1?api-key={}",
        ],
    )
    def test_of_a_refused_address_have_none(self, name: str, given: str) -> None:
        """Also where a key was put into its place."""
        with contextlib.suppress(ConfigError), hiding():
            Settings.load({name: given.format(KEY)}, {})

    @pytest.mark.parametrize(
        "url", ["redis://:{}@host:port/0", "redis://:a/{}@host", "redis://:{}@[host", "no://{}@h"]
    )
    def test_of_a_refused_storage_have_none(self, tmp_path: Path, url: str) -> None:
        for name in ("CHATAPP_EVENTLOG_URL", "CHATAPP_DATABASE_URL", "CHATAPP_RATE_LIMIT_STORAGE"):
            options = {name: url.format(KEY), "CHATAPP_RATE_LIMIT": "1/day"}
            with contextlib.suppress(ConfigError), hiding():
                host_with(tmp_path, "http://127.0.0.1:9/v1", **options)

    @pytest.mark.parametrize("kind", ["OpenAI", "Azure", "password"])
    @pytest.mark.parametrize("transport", ["fast", "stock"])
    def test_of_logs_and_tracebacks_have_none(
        self, tmp_path: Path, upstream: FakeUpstream, transport: str, kind: str, caplog: Any
    ) -> None:
        """With everything of the libraries logged, and what was at hand where a request failed."""
        for name in ("openai", "httpx2", "httpcore2", "chatapp", ""):
            caplog.set_level(logging.DEBUG, name or None)
        options: dict[str, Any] = {"api_key": KEY}
        if kind == "Azure":
            options = {"api_key": None, "azure_api_key": KEY, "azure_api_version": "2024-10-21"}
            options |= {"base_url": None, "azure_endpoint": upstream.url.removesuffix("/v1")}
        elif kind == "password":
            options = {"base_url": upstream.url.replace("//", f"//user:{KEY}@")}
        chat = OneChat(tmp_path, upstream, transport=transport, **options)
        told = [repr(chat.parts), repr(chat.parts.upstream), repr(chat.parts.upstream._client())]
        for script in (lambda call: call.refuse(401), lambda call: call.reset()):
            upstream.script = script
            for ask in (chat.ask, functools.partial(asked_directly, chat)):
                with pytest.raises(ChatAppError) as failed:
                    ask()
                told.append(all_of(failed.value))
        chat.close()
        assert KEY not in "".join(told)
        assert "401" in caplog.text
        assert KEY not in caplog.text
        assert KEY not in "".join(repr(record.args) for record in caplog.records)
        sent = {name: value for call in upstream.calls for name, value in call.headers.items()}
        basic = f"Basic {base64.b64encode(f'user:{KEY}'.encode()).decode()}"
        if kind == "password":
            assert sent["authorization"] == basic
        else:
            assert KEY in sent["api-key" if kind == "Azure" else "authorization"]


def asked_directly(chat: OneChat) -> None:
    """As the answer's own thread does it."""
    chat.parts.upstream.open("m", [{"role": "user", "content": "a"}], {}, Cancellation())


def all_of(error: BaseException) -> str:
    """A traceback as error trackers show it: with what each function of ours had at hand."""
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    for frame in whole.stack:
        if "/tests/" in frame.filename:
            frame.locals = None
    return "".join(whole.format())


class TestSigning:
    @pytest.mark.parametrize("secret", ["a", "x" * 15, "é" * 7])
    @pytest.mark.parametrize("name", ["CHATAPP_SECRET", "CHATAPP_SECRET_FALLBACKS"])
    def test_needs_a_secret_that_nobody_guesses(self, name: str, secret: str) -> None:
        with pytest.raises(ConfigError, match="openssl rand") as refused:
            Settings.load({name: secret}, {})
        assert secret not in str(refused.value).replace(name, "") or len(secret) == 1

    def test_a_server_with_a_short_one_does_not_start(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError):
            host_with(tmp_path, "http://127.0.0.1:9/v1", CHATAPP_SECRET="short")

    @pytest.mark.parametrize("by_host", [False, True])
    def test_what_a_former_one_has_signed_stays_valid(
        self, tmp_path: Path, upstream: FakeUpstream, by_host: bool
    ) -> None:
        """The visitor's cookie, and the ticket in a URL; what is new is signed with the new one."""
        origin = "https://friend.example"
        names = ("SECRET_KEY", "SECRET_KEY_FALLBACKS") if by_host else ("CHATAPP_SECRET", FALLBACKS)

        def app(**config: Any) -> Flask:
            return host_with(tmp_path, upstream.url, CHATAPP_CORS_ORIGINS=origin, **config)

        before = app(**{names[0]: OLD}).test_client(use_cookies=False)
        reply = before.post("/chat/api/chat", json={"message": "a"}, headers={"Origin": origin})
        cookie = {"Cookie": reply.headers["Set-Cookie"].partition(";")[0]}
        listed = before.get("/chat/api/conversations", headers=cookie).json["conversations"]
        assert len(listed) == 1
        url = reply.json["events"]
        before.get(url)

        rotated = app(**{names[0]: NEW, names[1]: [OLD]}).test_client(use_cookies=False)
        again = rotated.get("/chat/api/conversations", headers=cookie)
        assert [each["id"] for each in again.json["conversations"]] == [listed[0]["id"]]
        assert rotated.get(url).status_code == 200
        fresh = rotated.get("/chat/api/conversations").headers["Set-Cookie"].partition(";")[0]

        after = app(**{names[0]: NEW}).test_client(use_cookies=False)
        look = after.get("/chat/api/conversations", headers={"Cookie": fresh})
        assert "Set-Cookie" not in look.headers
        assert after.get("/chat/api/conversations", headers=cookie).json["conversations"] == []
        assert after.get(url).status_code == 404


FALLBACKS = "CHATAPP_SECRET_FALLBACKS"


def host_with(folder: Path, url: str, **config: Any) -> Flask:
    """A host application whose files are in this folder, with a chat."""
    app = Flask("tests.support.embedded_app", instance_path=str(folder))
    app.config.update(config)
    mounted(app, url)
    return app


class TestFiles:
    def test_are_of_the_server_s_user_alone(self, upstream: FakeUpstream, tmp_path: Path) -> None:
        """Under any mask, with all that a running server has in its folder."""
        folder = tmp_path / "deep" / "instance"
        old = os.umask(0)
        try:
            server = Gunicorn(upstream.url, folder, "-w", "2", "--umask", "0")
        finally:
            os.umask(old)
        try:
            client = Client(server.url)
            client.get("/api/conversations")
            client.ask()
            found = poll(lambda: len(list(folder.iterdir())) >= 4 and list(folder.iterdir()))
            rights = {each.name: stat.S_IMODE(each.stat().st_mode) for each in found}
            assert {"chat.db", "chat.db-wal", "chat.db-shm", "chatapp-secret"} <= set(rights)
            assert set(rights.values()) == {0o600}, rights
            for each in (folder, folder.parent):
                assert stat.S_IMODE(each.stat().st_mode) == 0o700
        finally:
            server.stop()

    @pytest.mark.parametrize("name", ["chat.db", "chatapp-secret"])
    def test_that_others_could_read_are_taken_from_them(
        self, tmp_path: Path, upstream: FakeUpstream, name: str
    ) -> None:
        app = host_with(tmp_path, upstream.url)
        app.test_client().get("/chat/api/conversations")
        file = Path(app.instance_path) / name
        file.chmod(0o644)
        again = host_with(tmp_path, upstream.url)
        assert again.test_client().get("/chat/api/conversations").status_code == 200
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    @pytest.mark.skipif(os.geteuid() != 0, reason="Only root can give files away.")
    @pytest.mark.parametrize("name", ["chat.db", "chatapp-secret"])
    def test_of_another_user_are_refused(
        self, tmp_path: Path, upstream: FakeUpstream, name: str, caplog: Any
    ) -> None:
        app = host_with(tmp_path, upstream.url)
        file = Path(app.instance_path) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("a secret that somebody else has put here" if "secret" in name else "")
        os.chown(file, 65_534, 65_534)
        reply = app.test_client().get("/chat/api/conversations")
        assert (reply.status_code, reply.json["error"]["code"]) == (503, "misconfigured")
        assert "belongs to another user" in caplog.text
