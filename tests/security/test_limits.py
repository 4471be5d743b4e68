"""Who is asking, and how much each of them may."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask, session
from flask.testing import FlaskClient
from flask_login import LoginManager, UserMixin, login_user, logout_user

from chatapp import ChatApp
from chatapp.errors import ConfigError
from tests.support.client import Client, joined
from tests.support.embedded_app import MakeHost, Served, asked, mounted, refused
from tests.support.upstream import USAGE, FakeUpstream, by_hand, poll, speak


def post(client: FlaskClient, message: str = "a", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/chat/api/chat", json={"message": message}, headers=named)


def titles(client: FlaskClient) -> list[str]:
    listed = client.get("/chat/api/conversations").json["conversations"]
    return sorted(each["title"].partition(" – ")[0] for each in listed)


class TestLogIn:
    """The application's own."""

    @pytest.mark.parametrize(
        "user", ["ada", 7, 0, UUID(int=5), "a\nb", "\u2028", "x" * 200], ids=repr
    )
    def test_whatever_names_somebody_owns(
        self, make_host: MakeHost, upstream: FakeUpstream, user: object
    ) -> None:
        app = make_host()
        mounted(app, upstream.url).owner(lambda: user)
        asked(app.test_client(), message="mine")
        assert titles(app.test_client()) == ["mine"]
        assert "Set-Cookie" not in app.test_client().get("/chat/").headers

    @pytest.mark.parametrize(
        "user",
        [
            False,
            True,
            "",
            Path("ada"),
            b"ada",
            ["ada"],
            1.5,
            "x" * 201,
            "\0",
            "\ud800",
            "visitor:a",
        ],
        ids=repr,
    )
    def test_what_names_nobody_for_sure_is_told_to_the_operator(
        self,
        make_host: MakeHost,
        upstream: FakeUpstream,
        user: object,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """An object's text may change with each request, and False would be one for all."""
        app = make_host()
        mounted(app, upstream.url).owner(lambda: user)
        response = post(app.test_client())
        assert refused(response) == (500, "internal")
        assert b"misconfigured" in response.data
        assert "The log-in returned" in caplog.text
        assert upstream.calls == []

    def test_nobody_is_asked_to_sign_in_everywhere(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        app = make_host()
        mounted(app, upstream.url).owner(lambda: None)
        client = app.test_client()
        for path in ("", "c/x", "api/page", "api/conversations", "api/answers/x", "api/events"):
            response = client.get(f"/chat/{path}")
            assert refused(response) == (401, "not_signed_in")
            assert "Set-Cookie" not in response.headers
        assert refused(post(client)) == (401, "not_signed_in")
        assert client.get("/chat/healthz").status_code == 200

    def test_registered_late_it_counts_from_then_on(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        app = make_host()
        chat = mounted(app, upstream.url)
        client = app.test_client()
        assert post(client).status_code == 202
        chat.owner(lambda: None)
        assert refused(post(client)) == (401, "not_signed_in")

    def test_one_that_blocks_is_named_and_streams_go_on(self, tmp_path: Path) -> None:
        """Under gevent, once in a while; a sleep that gevent makes cooperative is no fault."""
        source = (
            "import time\nfrom flask import Flask, request\nfrom chatapp import ChatApp\n"
            "app = Flask(__name__)\nchat = ChatApp(app)\n\n\n@chat.owner\ndef who():\n"
            "    time.sleep(0.3)\n    until = time.perf_counter() + 0.3\n"
            "    while 'X-Block' in request.headers and time.perf_counter() < until:\n"
            "        pass\n    return 'ada'\n"
        )
        site = Served(tmp_path, source)
        try:
            site.scripts["slow"] = speak("Slowly", " but", " surely.", pause=0.4)
            client = Client(site.url)
            stream = client.ask_streaming("slow")
            assert client.get("/api/models").status == 200
            assert "held up" not in site.server.log
            for _ in range(3):
                assert client.get("/api/conversations", X_Block="1").status == 200
            assert joined(stream.all()) == "Slowly but surely."
        finally:
            site.close()
        [warning] = [line for line in site.server.lines if "held up all streams" in line]
        assert "hosted:who" in warning


class User(UserMixin):  # type: ignore[misc] # it has no types
    def __init__(self, name: str) -> None:
        self.id = name


class TestFlaskLogin:
    """Found by itself where the application uses it."""

    @staticmethod
    def app(make_host: MakeHost, upstream: FakeUpstream, **options: Any) -> Flask:
        app = make_host()
        mounted(app, upstream.url, **options)
        manager = LoginManager()
        manager.init_app(app)
        manager.user_loader(User)

        @app.post("/in/<name>")
        def log_in(name: str) -> str:
            login_user(User(name))
            return name

        @app.post("/out")
        def log_out() -> str:
            logout_user()
            return ""

        return app

    def test_its_users_own_on_every_device(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        app = self.app(make_host, upstream)
        clients = [app.test_client() for _ in range(2)]
        for client in clients:
            client.post("/in/ada")
        asked(clients[0], message="mine")
        assert titles(clients[1]) == ["mine"]
        stranger = app.test_client()
        stranger.post("/in/eve")
        assert titles(stranger) == []
        clients[1].post("/out")
        assert titles(clients[1]) == []

    def test_who_has_not_signed_in_is_a_visitor(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        client = self.app(make_host, upstream).test_client()
        asked(client, message="before")
        assert titles(client) == ["before"]
        client.post("/in/ada")
        assert titles(client) == []
        client.post("/out")
        assert titles(client) == ["before"]

    def test_or_is_refused_where_a_log_in_is_required(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        client = self.app(make_host, upstream, login_required=True).test_client()
        assert refused(post(client)) == (401, "not_signed_in")
        client.post("/in/ada")
        assert post(client).status_code == 202

    def test_an_owner_function_comes_first(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        app = self.app(make_host, upstream)
        chat: ChatApp = mounted(app, upstream.url, "/own", name="own")
        chat.owner(lambda: session.get("own"))
        client = app.test_client()
        client.post("/in/ada")
        assert refused(client.get("/own/api/conversations")) == (401, "not_signed_in")


def test_a_required_log_in_that_is_nowhere_refuses_all(
    make_host: MakeHost, upstream: FakeUpstream
) -> None:
    app = make_host()
    mounted(app, upstream.url, login_required=True)
    assert refused(post(app.test_client())) == (401, "not_signed_in")


class TestLimits:
    @staticmethod
    def client(make_host: MakeHost, upstream: FakeUpstream, **options: Any) -> FlaskClient:
        app = make_host()
        chat = mounted(app, upstream.url, **options)
        chat.owner(lambda: session.get("id"))
        return signed_in(app)

    def test_of_questions_of_one_owner(self, make_host: MakeHost, upstream: FakeUpstream) -> None:
        client = self.client(make_host, upstream, rate_limit="2/hour")
        assert [post(client).status_code for _ in range(2)] == [202, 202]
        response = post(client)
        assert refused(response) == (429, "rate_limited")
        assert 3500 < int(response.headers["Retry-After"]) <= 3600
        assert len(upstream.calls) == 2
        assert len(titles(client)) == 2
        assert post(signed_in(client.application, "eve")).status_code == 202

    def test_of_questions_of_all(self, make_host: MakeHost, upstream: FakeUpstream) -> None:
        client = self.client(make_host, upstream, rate_limit_all="2/hour")
        for name in ("ada", "eve"):
            assert post(signed_in(client.application, name)).status_code == 202
        response = post(signed_in(client.application, "bob"))
        assert refused(response) == (429, "rate_limited")
        assert int(response.headers["Retry-After"]) > 3500

    def test_a_retry_with_the_same_key_is_no_further_question(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        client = self.client(make_host, upstream, rate_limit="1/hour")
        replies = [post(client, Idempotency_Key="one") for _ in range(5)]
        assert {each.status_code for each in replies} == {202}
        assert len({each.json["answer"]["id"] for each in replies}) == 1
        assert refused(post(client, Idempotency_Key="two")) == (429, "rate_limited")
        assert len(upstream.calls) == 1

    def test_new_visitors_of_one_address_are_counted_together(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        """Each request without a cookie would else be from somebody new."""
        app = make_host()
        mounted(app, upstream.url, rate_limit="2/hour")
        codes = [post(app.test_client()).status_code for _ in range(3)]
        assert codes == [202, 202, 429]

    def test_of_conversations_that_are_made_without_a_question(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        app = make_host()
        mounted(app, upstream.url, rate_limit="2/hour")
        replies = [app.test_client().post("/chat/api/conversations") for _ in range(3)]
        assert [each.status_code for each in replies] == [201, 201, 429]
        assert refused(replies[-1]) == (429, "rate_limited")
        assert 3500 < int(replies[-1].headers["Retry-After"]) <= 3600
        assert post(app.test_client()).status_code == 202

    def test_a_conversation_that_is_refused_for_its_body_is_not_counted(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        client = self.client(make_host, upstream, rate_limit="1/hour")
        for _ in range(2):
            response = client.post("/chat/api/conversations", json={"titel": "Trains"})
            assert refused(response) == (400, "unknown_field")
        assert client.post("/chat/api/conversations").status_code == 201

    def test_of_tokens_a_day(self, make_host: MakeHost, upstream: FakeUpstream) -> None:
        most = 2 * USAGE["total_tokens"]
        client = self.client(make_host, upstream, tokens_per_day=most)
        for _ in range(2):
            asked(client)
        response = poll(lambda: (r := post(client)).status_code == 429 and r)
        assert refused(response) == (429, "quota_used")
        assert 0 < int(response.headers["Retry-After"]) <= 86_400
        assert post(signed_in(client.application, "eve")).status_code == 202

    def test_of_answers_at_once(self, make_host: MakeHost, upstream: FakeUpstream) -> None:
        client = self.client(make_host, upstream, max_running_per_owner=2, start_wait=0)
        upstream.script = by_hand
        running = [post(client, f"running {number}") for number in range(2)]
        assert [each.status_code for each in running] == [202, 202]
        response = post(client)
        assert refused(response) == (429, "too_many_running")
        assert int(response.headers["Retry-After"]) > 0
        assert len(titles(client)) == 2
        other = post(signed_in(client.application, "eve"))
        assert other.status_code == 202
        assert client.post(running[0].json["stop"]).status_code == 202
        upstream.script = speak("Next.")
        poll(lambda: post(client).status_code == 202)
        client.post(running[1].json["stop"])
        signed_in(client.application, "eve").post(other.json["stop"])

    def test_a_rate_that_is_none_is_told_at_the_start(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        with pytest.raises(ConfigError, match="CHATAPP_RATE_LIMIT='often' is not a rate"):
            mounted(make_host(), upstream.url, rate_limit="often")


def signed_in(app: Flask, name: str = "ada") -> FlaskClient:
    client = app.test_client()
    with client.session_transaction() as kept:
        kept["id"] = name
    return client
