"""`ChatApp` in a host application: several beside each other, and the host stays as it was."""

import copy
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, render_template, session
from flask.testing import FlaskClient

from chatapp import AnswerRequest, AnswerResult, ChatApp, Refused
from chatapp.errors import ConfigError
from tests.support.client import Sent, joined, parse_all
from tests.support.embedded_app import MakeHost, asked, asking, mounted, refused
from tests.support.upstream import FakeUpstream, poll, speak


@pytest.fixture
def other_upstream() -> Iterator[FakeUpstream]:
    fake = FakeUpstream()
    fake.models = ["other-model"]
    fake.script = speak("From the other.")
    yield fake
    fake.close()


class Two:
    """Two chats in one application, each with an upstream and a log-in of its own."""

    def __init__(self, app: Flask, upstream: FakeUpstream, other: FakeUpstream) -> None:
        self.app = app
        self.support = mounted(app, upstream.url, "/support", name="support")
        options = asking(other.url, model="other-model", api_key="sk-other")
        self.lab = ChatApp(app, url_prefix="/lab", name="lab", options=options)

    def client(self) -> FlaskClient:
        return self.app.test_client()

    def log_in(self) -> None:
        """The same people at both."""

        @self.support.owner
        def customer() -> object:
            return session.get("user")

        @self.lab.owner
        def scientist() -> object:
            return session.get("user")

    def signed_in(self, user: object) -> FlaskClient:
        client = self.client()
        with client.session_transaction() as kept:
            kept["user"] = user
        return client


@pytest.fixture
def two(make_host: MakeHost, upstream: FakeUpstream, other_upstream: FakeUpstream) -> Two:
    return Two(make_host(), upstream, other_upstream)


class TestTwoChats:
    def test_each_asks_its_own_upstream_with_its_own_key_and_model(
        self, two: Two, upstream: FakeUpstream, other_upstream: FakeUpstream
    ) -> None:
        client = two.client()
        assert joined(asked(client, "/support")) == "Hello world."
        assert joined(asked(client, "/lab")) == "From the other."
        [one], [other] = upstream.calls, other_upstream.calls
        assert (one.json["model"], one.headers["authorization"]) == (
            "fake-model",
            "Bearer sk-secret",
        )
        assert (other.json["model"], other.headers["authorization"]) == (
            "other-model",
            "Bearer sk-other",
        )
        assert client.get("/lab/api/models").json["default"] == "other-model"

    @pytest.mark.parametrize("signed_in", [False, True], ids=["visitor", "user"])
    def test_neither_finds_what_was_asked_at_the_other(self, two: Two, signed_in: bool) -> None:
        """Also for the same person, with one database for both."""
        if signed_in:
            two.log_in()
        client = two.signed_in("ada") if signed_in else two.client()
        start = asked(client, "/support")[0].data
        answer, conversation = start["answer_id"], start["conversation_id"]
        assert client.get(f"/support/api/answers/{answer}").status_code == 200
        for method, path, body in (
            ("GET", f"/lab/api/answers/{answer}", None),
            ("GET", f"/lab/api/answers/{answer}/events", None),
            ("POST", f"/lab/api/answers/{answer}/stop", None),
            ("GET", f"/lab/api/conversations/{conversation}", None),
            ("PATCH", f"/lab/api/conversations/{conversation}", {"title": "Mine"}),
            ("DELETE", f"/lab/api/conversations/{conversation}", None),
            ("POST", "/lab/api/chat", {"regenerate": answer}),
            ("POST", "/lab/api/chat", {"message": "a", "conversation_id": conversation}),
        ):
            response = client.open(path, method=method, json=body)
            assert refused(response) == (404, "not_found"), path
        assert client.get("/lab/api/conversations").json["conversations"] == []
        assert len(client.get("/support/api/conversations").json["conversations"]) == 1

    def test_a_key_means_another_answer_at_the_other(
        self, two: Two, upstream: FakeUpstream, other_upstream: FakeUpstream
    ) -> None:
        two.log_in()
        client, key = two.signed_in("ada"), {"Idempotency-Key": "one"}
        for _ in range(2):
            for mount in ("/support", "/lab"):
                response = client.post(f"{mount}/api/chat", json={"message": "a"}, headers=key)
                assert response.status_code == 202
        assert (len(upstream.calls), len(other_upstream.calls)) == (1, 1)

    def test_neither_hears_what_the_other_publishes(self, two: Two) -> None:
        two.log_in()
        client = two.signed_in("ada")
        with two.app.app_context():
            for chat, word in ((two.support, "support"), (two.lab, "lab")):
                chat.publish("order", {"from": word, "to": "all"})
                chat.publish("order", {"from": word, "to": "ada"}, to="ada")
                chat.publish("order", {"from": word, "to": "eve"}, to="eve")
        asked(client, "/support")
        for mount in ("support", "lab"):
            published = [e for e in heard(client, f"/{mount}", 2) if e.event == "order"]
            assert [e.data for e in published] == [
                {"from": mount, "to": "all"},
                {"from": mount, "to": "ada"},
            ]
        told = {e.event for e in heard(client, "/lab", 2)}
        assert told == {"order"}

    def test_each_has_a_cookie_of_its_own_for_its_own_path(self, two: Two) -> None:
        client = two.client()
        one = client.get("/support/").headers["Set-Cookie"]
        other = client.get("/lab/").headers["Set-Cookie"]
        assert one.startswith("chatapp_visitor_support=")
        assert "Path=/support/;" in one
        assert other.startswith("chatapp_visitor_lab=")
        assert "Path=/lab/;" in other

    def test_hooks_and_tools_are_those_of_one_chat(
        self, two: Two, upstream: FakeUpstream, other_upstream: FakeUpstream
    ) -> None:
        told: list[str] = []

        @two.lab.before_answer
        def add(request: AnswerRequest) -> None:
            request.messages.insert(0, {"role": "system", "content": "You are in a lab."})

        @two.lab.on_piece
        def note(_info: object, piece: str) -> None:
            told.append(piece)

        @two.lab.after_answer
        def after(result: AnswerResult) -> None:
            told.append(result.status)

        @two.lab.tool
        def measure() -> int:
            """Measure."""
            return 7

        client = two.client()
        asked(client, "/support")
        assert told == []
        asked(client, "/lab")
        poll(lambda: told[-1:] == ["done"])
        [one], [other] = upstream.calls, other_upstream.calls
        assert "tools" not in one.json
        assert [each["role"] for each in one.json["messages"]] == ["user"]
        assert [each["function"]["name"] for each in other.json["tools"]] == ["measure"]
        assert [each["role"] for each in other.json["messages"]] == ["system", "user"]

    def test_one_may_want_a_log_in_and_the_other_not(self, two: Two) -> None:
        @two.support.owner
        def nobody() -> None:
            return None

        client = two.client()
        for path in ("/support/", "/support/api/conversations", "/support/api/events"):
            assert refused(client.get(path)) == (401, "not_signed_in")
        assert client.get("/lab/api/conversations").status_code == 200

    def test_counts_of_questions_are_apart(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        app = make_host()
        for name in ("one", "other"):
            mounted(app, upstream.url, f"/{name}", name=name, rate_limit="1/hour")
        client = app.test_client()
        for name in ("one", "other"):
            client.get(f"/{name}/")
            assert client.post(f"/{name}/api/chat", json={"message": "a"}).status_code == 202
            response = client.post(f"/{name}/api/chat", json={"message": "a"})
            assert refused(response) == (429, "rate_limited")


def heard(client: FlaskClient, mount: str, count: int) -> list[Sent]:
    """What a page that was here before anything happened gets from the push channel."""
    path = f"{mount}/api/events"
    response = client.get(path, headers={"Last-Event-ID": "0"}, buffered=False)
    raw, chunks = b"", iter(response.response)
    while len(parse_all(raw)) < count:
        chunk = next(chunks)
        raw += chunk if isinstance(chunk, bytes) else chunk.encode()
    response.close()
    return parse_all(raw)


class TestNames:
    def test_the_same_name_twice_is_told_with_what_to_do(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        app = make_host()
        chat = mounted(app, upstream.url)
        with pytest.raises(ConfigError, match=r"already has a chat 'chatapp'.*name=") as told:
            mounted(app, upstream.url, "/second")
        assert told.value.code == "config"
        with pytest.raises(ConfigError, match="already"):
            chat.init_app(app, url_prefix="/third")
        assert app.test_client().get("/chat/").status_code == 200

    @pytest.mark.parametrize("name", ["", "A", "a-b", "a.b", "a/b", "1a", "a" * 33, "ä", "a\n"])
    def test_what_can_not_be_part_of_an_address_or_a_cookie_is_no_name(self, name: str) -> None:
        with pytest.raises(ConfigError, match="can't name a chat"):
            ChatApp(name=name)

    def test_an_option_that_does_not_exist_is_told_with_the_nearest(
        self, make_host: MakeHost
    ) -> None:
        with pytest.raises(ConfigError, match=r"'modle'.*'model'"):
            ChatApp(make_host(), options={"modle": "x"})

    def test_options_win_over_the_config_of_the_application(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        app = make_host(CHATAPP_TITLE="The host's", CHATAPP_MESSAGE_MAX_CHARS=5)
        mounted(app, upstream.url, title="Mine")
        client = app.test_client()
        assert b"<title>Mine</title>" in client.get("/chat/").data
        response = client.post("/chat/api/chat", json={"message": "x" * 6})
        assert refused(response) == (400, "invalid_request")


class TestOneObjectInTwoApplications:
    def test_they_share_what_is_registered_and_nothing_else(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        chat = ChatApp()
        apps = [make_host(**config(upstream, title=title)) for title in ("One", "Two")]
        chat.init_app(apps[0], url_prefix="/chat")
        seen: list[str] = []

        @chat.before_answer
        def note(_request: AnswerRequest) -> None:
            from flask import current_app

            seen.append(current_app.config["CHATAPP_TITLE"])

        @chat.tool
        def early() -> str:
            """Between the two."""
            return ""

        chat.init_app(apps[1], url_prefix="/other")

        @chat.tool
        def late() -> str:
            """After both."""
            return ""

        clients = [app.test_client() for app in apps]
        start = asked(clients[0], "/chat")[0].data
        asked(clients[1], "/other")
        assert seen == ["One", "Two"]
        for call in upstream.calls:
            assert [each["function"]["name"] for each in call.json["tools"]] == ["early", "late"]
        assert len(clients[0].get("/chat/api/conversations").json["conversations"]) == 1
        copied = clients[0].get_cookie("chatapp_visitor", path="/chat/")
        assert copied
        headers = {"Cookie": f"chatapp_visitor={copied.value}"}
        path = f"/other/api/answers/{start['answer_id']}"
        stranger = apps[1].test_client(use_cookies=False)
        assert refused(stranger.get(path, headers=headers)) == (404, "not_found")
        assert clients[1].get("/chat/").status_code == 404

    def test_publications_go_to_the_pages_of_the_application_at_hand(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        chat = ChatApp()
        apps = [make_host(**config(upstream)) for _ in range(2)]
        for number, app in enumerate(apps):
            chat.init_app(app, url_prefix="/chat")
            with app.app_context():
                chat.publish("order", {"number": number})
        for number, app in enumerate(apps):
            [event] = heard(app.test_client(), "/chat", 1)
            assert event.data == {"number": number}


def config(upstream: FakeUpstream, **options: Any) -> dict[str, Any]:
    """The same as `asking`, as an application's config."""
    named = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-test"}
    given = {"model": "fake-model", **options}
    return named | {f"CHATAPP_{name.upper()}": value for name, value in given.items()}


def test_chats_with_databases_of_their_own_may_begin_at_the_same_time(
    make_host: MakeHost, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Each makes its tables at its first use, in whichever thread that is."""
    app = make_host()
    names = [f"chat{number}" for number in range(6)]
    for name in names:
        folder = str(tmp_path / name)
        mounted(app, upstream.url, f"/{name}", name=name, instance=folder)
    with ThreadPoolExecutor(len(names)) as threads:
        answers = list(threads.map(lambda name: asked(app.test_client(), f"/{name}"), names))
    assert {joined(events) for events in answers} == {"Hello world."}


class TestHost:
    """Of the application nothing is changed but what is below the prefix."""

    @staticmethod
    def state(app: Flask) -> dict[str, Any]:
        """What a host would notice."""
        loader = app.jinja_env.loader
        return {
            "config": dict(app.config),
            "handlers": copy.deepcopy(app.error_handler_spec[None]),
            "before": list(app.before_request_funcs.get(None, ())),
            "after": list(app.after_request_funcs.get(None, ())),
            "teardown": list(app.teardown_request_funcs.get(None, ())),
            "teardown_context": list(app.teardown_appcontext_funcs),
            "context": list(app.template_context_processors[None]),
            "preprocessors": copy.copy(app.url_value_preprocessors.get(None)),
            "defaults": copy.copy(app.url_default_functions.get(None)),
            "json": app.json,
            "session": app.session_interface,
            "wsgi": app.wsgi_app,
            "loader": (loader, app.jinja_loader),
            "globals": set(app.jinja_env.globals),
            "filters": set(app.jinja_env.filters),
            "request_class": app.request_class,
            "shell": list(app.shell_context_processors),
            "rules": {str(r) for r in app.url_map.iter_rules() if not str(r).startswith("/chat/")},
            "root": (logging.getLogger().level, list(logging.getLogger().handlers)),
            "app_logger": (app.logger.level, list(app.logger.handlers)),
        }

    def test_nothing_of_it_is_changed(self, make_host: MakeHost, upstream: FakeUpstream) -> None:
        app = make_host()
        before, commands = self.state(app), set(app.cli.commands)
        chat = mounted(app, upstream.url)
        chat.before_answer(lambda _request: None)
        assert self.state(app) == before
        assert set(app.cli.commands) - commands == {"chatapp"}
        assert set(app.blueprints) == {"chatapp"}
        client = app.test_client()
        asked(client)
        client.get("/chat/")
        assert self.state(app) == before

    def test_a_second_chat_adds_no_second_command(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        app = make_host()
        before = set(app.cli.commands)
        mounted(app, upstream.url)
        mounted(app, upstream.url, "/second", name="second")
        assert set(app.cli.commands) - before == {"chatapp"}

    def test_its_session_is_not_opened(self, make_host: MakeHost, upstream: FakeUpstream) -> None:
        app = make_host()
        mounted(app, upstream.url)
        client = app.test_client()
        asked(client)
        client.get("/chat/")
        assert client.get_cookie("session") is None
        assert client.get_cookie("session", path="/chat/") is None

    def test_its_templates_and_static_files_are_its_own(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        """A template of ours that the host has, too, is the host's: so pages are changed."""
        app = make_host()
        folder = Path(app.root_path)
        for path, text in {
            "templates/page.html": "the host's page",
            "templates/chat.html": "the host's chat",
            "static/icon.svg": "the host's icon",
            "static/app.js": "the host's script",
        }.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        mounted(app, upstream.url)

        @app.get("/page")
        def host_page() -> str:
            return render_template("page.html") + render_template("chat.html")

        client = app.test_client()
        assert client.get("/page").data == b"the host's pagethe host's chat"
        with client.get("/static/icon.svg") as theirs, client.get("/chat/assets/icon.svg") as ours:
            assert theirs.data == b"the host's icon"
            assert ours.data.startswith(b"<svg")
        assert b"the host's" not in client.get("/chat/").data
        (folder / "templates/chatapp").mkdir()
        (folder / "templates/chatapp/page.html").write_text("{{ title }}: our own page")
        app.jinja_env.cache.clear()  # type: ignore[union-attr]
        assert client.get("/chat/").data == b"Chat: our own page"

    def test_its_error_pages_are_its_own_and_ours_are_ours(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        app = make_host()

        @app.errorhandler(404)
        def lost(_error: object) -> tuple[str, int]:
            return "the host is lost", 404

        @app.errorhandler(Exception)
        def broken(_error: object) -> tuple[str, int]:
            return "the host is broken", 500

        mounted(app, upstream.url)

        @app.get("/broken")
        def fail() -> str:
            raise Refused("A host may use our errors for itself.")

        client = app.test_client()
        assert client.get("/nowhere").data == b"the host is lost"
        assert client.get("/chat/nowhere").data == b"the host is lost"
        assert client.get("/broken").data == b"the host is broken"
        assert refused(client.get("/chat/api/answers/never-was")) == (404, "not_found")
        assert refused(client.post("/chat/api/chat", json={})) == (400, "invalid_request")

    def test_a_secret_that_is_set_after_the_chat_is_found(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        app = make_host()
        app.secret_key = None
        mounted(app, upstream.url)
        app.secret_key = b"as bytes, \xff too"
        client = app.test_client()
        asked(client)
        assert len(client.get("/chat/api/conversations").json["conversations"]) == 1
        assert not (Path(app.instance_path) / "chatapp-secret").exists()
