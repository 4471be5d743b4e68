"""Other visitors reach nothing that is not theirs, and other sites only what they are allowed."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.support import flask_client
from tests.support.flask_client import MakeApp, ask, error_of, refused

make_app, app, client = flask_client.make_app, flask_client.app, flask_client.client


class TestOthers:
    """Whoever does not have the cookie finds nothing, and can not tell it from what never was."""

    def test_every_route_with_an_id(self, app: Flask, client: FlaskClient) -> None:
        answer = ask(client)
        conversation = answer["conversation_id"]
        question = client.get(f"/api/conversations/{conversation}").json["messages"][0]["id"]
        stranger = app.test_client()
        for one in (answer["id"], "never-was"):
            assert error_of(stranger.get(f"/api/answers/{one}"), 404)
            assert error_of(stranger.get(f"/api/answers/{one}/events"), 404)
            assert error_of(stranger.get(f"/api/answers/{one}/events?last_event_id=99"), 404)
            assert error_of(stranger.post(f"/api/answers/{one}/stop"), 404)
            assert error_of(stranger.post("/api/chat", json={"regenerate": one}), 404)
        for one in (conversation, "never-was"):
            url = f"/api/conversations/{one}"
            assert error_of(stranger.get(url), 404)
            assert error_of(stranger.patch(url, json={"title": "x"}), 404)
            assert error_of(stranger.delete(url), 404)
            body = {"message": "a", "conversation_id": one, "edit": question}
            assert error_of(stranger.post("/api/chat", json=body), 404)
        assert stranger.get("/api/conversations").json["conversations"] == []
        assert client.get(f"/api/answers/{answer['id']}").json["status"] == "done"

    @pytest.mark.parametrize("cookie", ["", "visitor", "a.b", "x" * 4000, "é.è", '"'])
    def test_a_forged_cookie_makes_a_new_visitor(
        self, app: Flask, client: FlaskClient, cookie: str
    ) -> None:
        ask(client)
        stranger = app.test_client(use_cookies=False)
        header = {"Cookie": f"chatapp_visitor={cookie}"}
        response = stranger.get("/api/conversations", headers=header)
        assert response.json["conversations"] == []
        assert "chatapp_visitor=" in response.headers["Set-Cookie"]

    def test_the_cookie_is_hidden_from_scripts_and_sent_once(self, client: FlaskClient) -> None:
        cookie = client.get("/api/conversations").headers["Set-Cookie"]
        assert all(part in cookie for part in ("HttpOnly", "SameSite=Lax", "Path=/"))
        assert "Secure" not in cookie
        assert "Set-Cookie" not in client.get("/api/conversations").headers

    def test_over_https_the_cookie_is_secure(self, client: FlaskClient) -> None:
        response = client.get("/api/conversations", base_url="https://localhost")
        assert "Secure" in response.headers["Set-Cookie"]


class TestOtherSites:
    ORIGIN = "https://friend.example"

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/api/chat"),
            ("POST", "/api/answers/x/stop"),
            ("POST", "/api/conversations"),
            ("PATCH", "/api/conversations/x"),
            ("DELETE", "/api/conversations/x"),
        ],
    )
    def test_may_change_nothing(
        self, client: FlaskClient, site: str, method: str, path: str
    ) -> None:
        headers = {"Sec-Fetch-Site": site, "Origin": self.ORIGIN}
        response = client.open(path, method=method, json={"message": "a"}, headers=headers)
        refused(response, 403, "cross_site", None)
        assert "Access-Control-Allow-Origin" not in response.headers

    @pytest.mark.parametrize("site", ["same-origin", "none", None])
    def test_are_not_our_own_page_nor_programs_that_are_no_browser(
        self, client: FlaskClient, site: str | None
    ) -> None:
        headers = {"Sec-Fetch-Site": site} if site else {}
        assert client.post("/api/chat", json={"message": "a"}, headers=headers).status_code == 202

    def test_that_are_allowed_are_named_one_by_one(self, make_app: MakeApp) -> None:
        client = make_app(cors_origins=f"https://other.example,{self.ORIGIN}").test_client()
        headers = {"Sec-Fetch-Site": "cross-site", "Origin": self.ORIGIN}
        for response in (
            client.post("/api/chat", json={"message": "a"}, headers=headers),
            client.post("/api/chat", json={}, headers=headers),
            client.get("/api/answers/x", headers=headers),
            client.options("/api/chat", headers=headers),
        ):
            assert response.headers["Access-Control-Allow-Origin"] == self.ORIGIN
            assert response.headers["Access-Control-Allow-Credentials"] == "true"
            assert "X-Answer-Id" in response.headers["Access-Control-Expose-Headers"]
            assert "Origin" in response.headers["Vary"]
        preflight = client.options("/api/chat", headers=headers)
        assert preflight.status_code == 204
        allowed = preflight.headers["Access-Control-Allow-Headers"]
        assert {"Content-Type", "Idempotency-Key", "Last-Event-ID"} == set(allowed.split(", "))

    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://friend.example.x"])
    def test_that_are_not_allowed_get_no_word_of_it(self, make_app: MakeApp, origin: str) -> None:
        client = make_app(cors_origins=self.ORIGIN).test_client()
        headers = {"Sec-Fetch-Site": "cross-site", "Origin": origin}
        for response in (
            client.get("/api/conversations", headers=headers),
            client.options("/api/chat", headers=headers),
            client.post("/api/chat", json={"message": "a"}, headers=headers),
        ):
            assert "Access-Control-Allow-Origin" not in response.headers
            assert "Origin" in response.headers["Vary"]
        refused(response, 403, "cross_site", None)
