"""Nobody gets at what is somebody else's: not by ids, not by cookies, not by tickets."""

import hashlib
import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, session
from flask.testing import FlaskClient
from itsdangerous import Signer, TimestampSigner, URLSafeTimedSerializer

from chatapp.service import service
from tests.support.embedded_app import MakeHost, asked, mounted, refused
from tests.support.upstream import FakeUpstream, by_hand

ORIGIN = "https://friend.example"
NEVER_WAS = "AAAAAAAAAAAAAAAA"


@pytest.fixture(autouse=True)
def nothing_has_just_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not found is not looked for again: there are thousands of them here."""
    monkeypatch.setattr(service, "LOOK_AGAIN", ())


@pytest.fixture
def app(make_host: MakeHost, upstream: FakeUpstream) -> Flask:
    app = make_host(CHATAPP_CORS_ORIGINS=ORIGIN)
    mounted(app, upstream.url)
    mounted(app, upstream.url, "/lab", name="lab")
    return app


class Owned:
    """An ended and a running answer of somebody's."""

    def __init__(self, client: FlaskClient, upstream: FakeUpstream) -> None:
        self.client = client
        start = asked(client, message="private words")[0].data
        self.answer: str = start["answer_id"]
        self.conversation: str = start["conversation_id"]
        about = client.get(f"/chat/api/conversations/{self.conversation}").json
        self.title: str = about["title"]
        self.question: str = about["messages"][0]["id"]
        upstream.script = by_hand
        body = {"message": "running words"}
        reply = client.post("/chat/api/chat", json=body, query_string={"granularity": "word"})
        assert reply.status_code == 202
        self.running: dict[str, Any] = reply.json["answer"]

    def end(self) -> None:
        self.client.post(f"/chat/api/answers/{self.running['id']}/stop")


Route = tuple[str, str, dict[str, Any] | None]


def routes(answer: str, conversation: str, message: str) -> list[Route]:
    """Everything that takes an id, with these."""
    one, all_of_it = f"/chat/api/answers/{answer}", f"/chat/api/conversations/{conversation}"
    chat = "/chat/api/chat"
    return [
        ("GET", one, None),
        ("HEAD", one, None),
        ("GET", f"{one}/events", None),
        ("HEAD", f"{one}/events", None),
        ("GET", f"{one}/events?last_event_id=1", None),
        ("GET", f"{one}/events?last_event_id=999", None),
        ("GET", f"{one}/events?granularity=full", None),
        ("POST", f"{one}/stop", None),
        ("GET", all_of_it, None),
        ("PATCH", all_of_it, {"title": "Mine"}),
        ("PATCH", all_of_it, {"leaf": message}),
        ("PATCH", all_of_it, {"settings": {"system_prompt": "Obey."}}),
        ("DELETE", all_of_it, None),
        ("POST", chat, {"regenerate": answer}),
        ("POST", chat, {"message": "a", "conversation_id": conversation}),
        ("POST", chat, {"message": "a", "conversation_id": conversation, "edit": message}),
    ]


def seen_by(client: FlaskClient, route: Route, **headers: str) -> tuple[int, bytes, list[str]]:
    """Status, body and headers, as far as they can tell anything."""
    method, path, body = route
    response = client.open(path, method=method, json=body, headers=headers)
    names = sorted(name for name in response.headers.keys() if name != "Set-Cookie")  # noqa: SIM118
    return response.status_code, response.data, names


class TestIds:
    def test_of_others_are_answered_as_those_that_never_were(
        self, app: Flask, upstream: FakeUpstream
    ) -> None:
        """For each route, and for ended and running answers: the same status, body and headers."""
        owned = Owned(app.test_client(), upstream)
        stranger = app.test_client()
        stranger.get("/chat/")
        running = owned.running["id"], owned.running["conversation_id"], owned.running["id"]
        ended = owned.answer, owned.conversation, owned.question
        calls = len(upstream.calls)
        for headers in ({}, {"Origin": ORIGIN}):
            nothing = routes(NEVER_WAS, NEVER_WAS, NEVER_WAS)
            for theirs, others, never in zip(
                routes(*running), routes(*ended), nothing, strict=True
            ):
                expected = seen_by(stranger, never, **headers)
                assert expected[0] == 404
                assert seen_by(stranger, theirs, **headers) == expected, theirs
                assert seen_by(stranger, others, **headers) == expected, others
        assert len(upstream.calls) == calls
        assert owned.client.get(f"/chat/api/answers/{running[0]}").json["status"] != "stopped"
        about = owned.client.get(f"/chat/api/conversations/{owned.conversation}").json
        assert (about["title"], about["settings"]) == (owned.title, {})
        owned.end()

    def test_a_message_is_found_only_in_its_own_conversation(
        self, app: Flask, upstream: FakeUpstream
    ) -> None:
        owned = Owned(app.test_client(), upstream)
        owned.end()
        eve = app.test_client()
        path = eve.post("/chat/api/conversations", json={}).json["id"]
        for body in (
            {"message": "a", "conversation_id": path, "edit": owned.question},
            {"message": "a", "conversation_id": path, "edit": owned.answer},
        ):
            response = eve.post("/chat/api/chat", json=body)
            assert refused(response) == (404, "not_found")
        response = eve.patch(f"/chat/api/conversations/{path}", json={"leaf": owned.answer})
        assert refused(response) == (404, "not_found")

    def test_lists_and_searches_have_only_what_is_ones_own(
        self, app: Flask, upstream: FakeUpstream
    ) -> None:
        owned = Owned(app.test_client(), upstream)
        owned.end()
        eve = app.test_client()
        for query in ("", "?q=private", "?q=%25", "?q=_", "?q='", "?q=%5C", "?limit=200"):
            response = eve.get(f"/chat/api/conversations{query}")
            assert response.json == {"conversations": [], "next_cursor": None}
        cursor = owned.client.get("/chat/api/conversations?limit=1").json["next_cursor"]
        response = eve.get(f"/chat/api/conversations?cursor={cursor}")
        assert response.json["conversations"] == []

    @pytest.mark.parametrize(
        "an_id", ["%00", "a%00b", "%ed%a0%80", "..%2f..", "%0d%0aX: y", "a" * 3000, "é", "'--", "%"]
    )
    def test_that_are_none_are_not_found_either(self, app: Flask, an_id: str) -> None:
        client = app.test_client()
        for method, path, body in routes(an_id, an_id, NEVER_WAS):
            response = client.open(path, method=method, json=body)
            assert response.status_code in (400, 404), path
            assert "X" not in response.headers


class TestLogIns:
    def test_ids_that_look_like_others_are_others(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        """Also an id with a line break in it, and one that is a number elsewhere."""
        app = make_host()
        chat = mounted(app, upstream.url)

        @chat.owner
        def who() -> object:
            return session.get("id")

        names = ["ada", "Ada", "ada ", "ada\n", "user:ada", "a%da", "a_a", "chatapp/user:ada", "1"]
        clients = {}
        for name in names:
            client = clients[name] = app.test_client()
            with client.session_transaction() as kept:
                kept["id"] = name
            asked(client, message=f"I am {name!r}")
        for name, client in clients.items():
            listed = client.get("/chat/api/conversations").json["conversations"]
            [title] = [each["title"] for each in listed]
            assert title.startswith(f"I am {name!r}")

    def test_who_logs_out_or_in_as_another_is_another(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        app = make_host()
        chat = mounted(app, upstream.url)
        now: dict[str, object] = {"id": "ada"}
        chat.owner(lambda: now["id"])
        client = app.test_client()
        start = asked(client)[0].data
        path = f"/chat/api/answers/{start['answer_id']}"
        assert client.get(path).status_code == 200
        now["id"] = "eve"
        assert refused(client.get(path)) == (404, "not_found")
        now["id"] = None
        assert refused(client.get(path)) == (401, "not_signed_in")
        assert client.get_cookie("chatapp_visitor", path="/chat/") is None


def with_cookie(app: Flask, value: str, name: str = "chatapp_visitor") -> Callable[[str], Any]:
    client = app.test_client(use_cookies=False)
    return lambda path: client.get(path, headers={"Cookie": f"{name}={value}"})


class TestCookies:
    @pytest.fixture
    def mine(self, app: Flask) -> tuple[str, str]:
        """A visitor's cookie, and where their answer is."""
        client = app.test_client()
        start = asked(client)[0].data
        cookie = client.get_cookie("chatapp_visitor", path="/chat/")
        assert cookie
        path = f"/chat/api/answers/{start['answer_id']}"
        assert with_cookie(app, cookie.value)(path).status_code == 200
        return cookie.value, path

    def test_that_were_changed_cut_or_added_to_get_nowhere(
        self, app: Flask, mine: tuple[str, str]
    ) -> None:
        cookie, path = mine
        visitor, _, signature = cookie.rpartition(".")
        changed = [cookie[:at] + flipped(cookie[at]) + cookie[at + 1 :] for at in range(40)]
        cut = [cookie[:length] for length in range(len(cookie))]
        joined = [visitor, f"{visitor}.", f".{signature}", f"{visitor}.{signature}." + signature]
        padded = [cookie + "A", cookie + ".", "A" + cookie, f"{cookie}{'A' * 5000}", cookie[::-1]]
        for forged in (*changed, *cut, *joined, *padded):
            assert refused(with_cookie(app, forged)(path)) == (404, "not_found"), forged

    @pytest.mark.parametrize("secret", ["", "secret", "the host's own secret "])
    def test_that_another_key_has_signed_get_nowhere(
        self, app: Flask, mine: tuple[str, str], secret: str
    ) -> None:
        cookie, path = mine
        visitor = cookie.rpartition(".")[0]
        for salt in ("chatapp.visitor", "cookie-session", ""):
            for derivation in ("hmac", "concat", "django-concat", "none"):
                signer = Signer(secret, salt=salt, key_derivation=derivation)
                forged = signer.sign(visitor).decode()
                assert refused(with_cookie(app, forged)(path)) == (404, "not_found")

    def test_that_the_application_signs_for_other_ends_get_nowhere(
        self, app: Flask, mine: tuple[str, str]
    ) -> None:
        """Its session has the same key."""
        cookie, path = mine
        visitor = cookie.rpartition(".")[0]
        for signer in (
            Signer(app.secret_key, salt="cookie-session", key_derivation="hmac"),
            TimestampSigner(app.secret_key, salt="chatapp.ticket", key_derivation="hmac"),
        ):
            forged = signer.sign(visitor).decode()
            assert refused(with_cookie(app, forged)(path)) == (404, "not_found")

    def test_of_another_chat_get_nowhere(self, app: Flask, mine: tuple[str, str]) -> None:
        cookie, path = mine
        get = with_cookie(app, cookie, "chatapp_visitor_lab")
        assert refused(get(path)) == (404, "not_found")
        assert refused(get(path.replace("/chat/", "/lab/"))) == (404, "not_found")
        assert get("/lab/api/conversations").json["conversations"] == []


def flipped(character: str) -> str:
    return "B" if character == "A" else "A"


class TestTickets:
    @pytest.fixture
    def granted(self, app: Flask) -> tuple[str, str]:
        """An answer's address with and without its ticket."""
        response = app.test_client().post(
            "/chat/api/chat", json={"message": "a"}, headers={"Origin": ORIGIN}
        )
        url: str = response.json["events"]
        path, _, ticket = url.partition("?ticket=")
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", ticket)
        assert app.test_client().get(url).status_code == 200
        return path, ticket

    def test_are_given_to_listed_origins_only(self, app: Flask) -> None:
        for origin in ("https://evil.example", "null", f"{ORIGIN}:8443", f"{ORIGIN}/", None):
            headers = {"Sec-Fetch-Site": "same-origin"} | ({"Origin": origin} if origin else {})
            body = {"message": "a"}
            response = app.test_client().post("/chat/api/chat", json=body, headers=headers)
            assert "ticket" not in response.json["events"]
            assert "Access-Control-Allow-Origin" not in response.headers

    def test_open_the_events_of_one_answer_and_nothing_else(
        self, app: Flask, granted: tuple[str, str]
    ) -> None:
        path, ticket = granted
        reader = app.test_client()
        response = reader.get(f"{path}?ticket={ticket}")
        assert response.status_code == 200
        assert "Set-Cookie" not in response.headers
        snapshot, given = path.removesuffix("/events"), f"?ticket={ticket}"
        assert refused(reader.get(snapshot + given)) == (404, "not_found")
        assert refused(reader.post(f"{snapshot}/stop{given}")) == (404, "not_found")
        assert reader.get(f"/chat/api/conversations{given}").json["conversations"] == []
        other = asked(app.test_client())[0].data["answer_id"]
        for another in (other, NEVER_WAS):
            response = reader.get(f"/chat/api/answers/{another}/events{given}")
            assert refused(response) == (404, "not_found")

    def test_that_are_not_ours_get_nowhere(self, app: Flask, granted: tuple[str, str]) -> None:
        path, ticket = granted
        reader = app.test_client()
        changed = [
            ticket[:at] + flipped(ticket[at]) + ticket[at + 1 :] for at in range(len(ticket))
        ]
        cut = [ticket[:length] for length in range(1, len(ticket), 3)]
        odd = [
            "A",
            ".",
            "..",
            "A" * 2049,
            "A" * 3500,
            f"{ticket}A",
            f"A{ticket}",
            "%00",
            "é",
            "%ff",
        ]
        for forged in (*changed, *cut, *odd):
            response = reader.get(f"{path}?ticket={forged}")
            assert refused(response) == (404, "not_found"), forged
            assert ticket.encode() not in response.data

    def test_that_another_key_or_chat_has_signed_get_nowhere(
        self, app: Flask, granted: tuple[str, str]
    ) -> None:
        path, ticket = granted
        [answer_id, owner] = json.loads(unpacked(ticket))
        hashed = {"key_derivation": "hmac", "digest_method": hashlib.sha384}
        secret = str(app.secret_key)
        for key, salt in (
            ("another", "chatapp.ticket.chatapp"),
            (secret, "chatapp.ticket"),
            (secret, "chatapp.ticket.lab"),
            (secret, "cookie-session"),
            (secret, "chatapp.visitor"),
        ):
            serializer = URLSafeTimedSerializer(key, salt=salt, signer_kwargs=hashed)
            forged = serializer.dumps([answer_id, owner])
            response = app.test_client().get(f"{path}?ticket={forged}")
            assert refused(response) == (404, "not_found")
        response = app.test_client().get(f"{path.replace('/chat/', '/lab/')}?ticket={ticket}")
        assert refused(response) == (404, "not_found")

    def test_that_are_too_old_get_nowhere(
        self, app: Flask, granted: tuple[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, ticket = granted
        now = time.time()
        for later, status in ((299, 200), (302, 404), (-5, 404)):
            monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda _, t=later: int(now) + t)
            response = app.test_client().get(f"{path}?ticket={ticket}")
            assert response.status_code == status, later

    def test_fit_for_the_longest_name_of_an_owner(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        app = make_host(CHATAPP_CORS_ORIGINS=ORIGIN)
        chat = mounted(app, upstream.url)
        name = "".join(chr(0x20000 + 317 * n) for n in range(200))
        chat.owner(lambda: name)
        headers = {"Origin": ORIGIN}
        response = app.test_client().post("/chat/api/chat", json={"message": "a"}, headers=headers)
        assert response.status_code == 202
        assert app.test_client().get(response.json["events"]).status_code == 200


def unpacked(ticket: str) -> str:
    """What a ticket says."""
    serializer = URLSafeTimedSerializer("any")
    return json.dumps(serializer.load_payload(ticket.split(".")[0].encode()))
