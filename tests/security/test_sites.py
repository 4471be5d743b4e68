"""Pages of other sites change nothing and read nothing, unless they are listed."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.support.embedded_app import MakeHost, asked, mounted, refused
from tests.support.upstream import FakeUpstream

FRIEND = "https://friend.example"
EVIL = "https://evil.example"
WRITES = [
    ("POST", "chat", {"message": "a"}),
    ("POST", "answers/{answer}/stop", None),
    ("POST", "conversations", {"title": "a"}),
    ("POST", "conversations", None),
    ("PATCH", "conversations/{conversation}", {"title": "a"}),
    ("DELETE", "conversations/{conversation}", None),
]
READS = [
    "api/answers/{answer}",
    "api/answers/{answer}/events",
    "api/answers/{answer}/events?last_event_id=1",
    "api/conversations",
    "api/conversations?q=words&limit=1",
    "api/conversations/{conversation}",
    "api/models",
    "api/page",
    "healthz",
    "readyz",
    "metrics",
    "",
    "c/{conversation}",
    "assets/icon.svg",
]


@pytest.fixture
def app(make_host: MakeHost, upstream: FakeUpstream) -> Flask:
    app = make_host(CHATAPP_CORS_ORIGINS=FRIEND)
    mounted(app, upstream.url)
    return app


class Site:
    """A visitor who has asked something, and what is stored."""

    def __init__(self, app: Flask, client: FlaskClient) -> None:
        self.app, self.client = app, client
        start = asked(client, message="words")[0].data
        self.ids = {"answer": start["answer_id"], "conversation": start["conversation_id"]}

    def write(self, method: str, path: str, body: Any, **headers: str) -> Any:
        url = f"/chat/api/{path.format(**self.ids)}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is None:
            return self.client.open(url, method=method, headers=named)
        return self.client.open(url, method=method, json=body, headers=named)

    def stored(self) -> list[Any]:
        """Every row of conversations, messages and calls."""
        file = Path(self.app.instance_path) / "chat.db"
        with sqlite3.connect(file) as database:
            rows = [
                database.execute(f"SELECT * FROM chatapp_{table} ORDER BY id").fetchall()
                for table in ("conversations", "messages", "calls")
            ]
        database.close()
        return rows


@pytest.fixture
def site(app: Flask) -> Site:
    return Site(app, app.test_client())


class TestWrites:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec_Fetch_Site": "cross-site", "Origin": EVIL},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site", "Origin": "https://evil.localhost"},
            {"Sec_Fetch_Site": "cross-site", "Origin": "null"},
            {"Sec_Fetch_Site": "cross-site", "Origin": "http://localhost"},
            {"Origin": EVIL},
            {"Origin": "null"},
            {"Origin": "http://localhost:8080"},
            {"Origin": "http://localhost.evil.example"},
            {"Origin": "http://evil.example@localhost"},
            {"Origin": "http://["},
            {"Origin": "//"},
            {"Origin": f"{FRIEND}.evil.example"},
            {"Origin": f"{FRIEND}:8443"},
            {"Origin": f"{FRIEND}, {EVIL}"},
            {"Origin": FRIEND.upper()},
            {"Origin": FRIEND.replace("https", "http")},
        ],
        ids=str,
    )
    def test_of_other_sites_are_refused_and_change_nothing(
        self, site: Site, headers: dict[str, str]
    ) -> None:
        before = site.stored()
        for method, path, body in WRITES:
            response = site.write(method, path, body, **headers)
            assert refused(response) == (403, "cross_site"), path
            assert "Access-Control-Allow-Origin" not in response.headers
        assert site.stored() == before

    @pytest.mark.parametrize(
        "kind",
        [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "text/plain; charset=application/json",
            "text/json",
            "application/jsonp",
            "application/json/x",
            "",
        ],
    )
    def test_in_a_form_that_needs_no_permission_of_a_browser_are_refused(
        self, site: Site, upstream: FakeUpstream, kind: str
    ) -> None:
        """Also where nothing tells the site: a browser asks before it sends JSON to another one."""
        before, calls = site.stored(), len(upstream.calls)
        for method, path, body in WRITES:
            if body is not None:
                url = f"/chat/api/{path.format(**site.ids)}"
                data = b'{"message":"a","title":"a","x":"="}'
                response = site.client.open(url, method=method, data=data, content_type=kind)
                assert refused(response) == (415, "not_json"), path
        assert (site.stored(), len(upstream.calls)) == (before, calls)

    def test_of_our_own_page_and_of_listed_sites_are_done(self, site: Site) -> None:
        for headers in (
            {"Sec_Fetch_Site": "same-origin", "Origin": "http://localhost"},
            {"Origin": "http://localhost"},
            {"Sec_Fetch_Site": "none"},
            {"Sec_Fetch_Site": "cross-site", "Origin": FRIEND},
            {},
        ):
            response = site.write("POST", "conversations", {"title": "a"}, **headers)
            assert response.status_code == 201, headers


class TestReads:
    def test_have_no_effects(self, site: Site, upstream: FakeUpstream) -> None:
        """Nor by a header or a parameter that some frameworks take for another method."""
        before, calls = site.stored(), len(upstream.calls)
        for method in ("GET", "HEAD", "OPTIONS"):
            for path in READS:
                url = f"/chat/{path.format(**site.ids)}"
                for override in ("DELETE", "POST", "PATCH"):
                    headers = {"X-HTTP-Method-Override": override, "X-Method-Override": override}
                    more = "&" if "?" in url else "?"
                    with site.client.open(
                        f"{url}{more}_method={override}", method=method, headers=headers
                    ) as response:
                        assert response.status_code in (200, 204), path
        assert (site.stored(), len(upstream.calls)) == (before, calls)

    @pytest.mark.parametrize("path", ["chat", "answers/{answer}/stop"])
    def test_do_not_do_what_writes_do(self, site: Site, path: str) -> None:
        for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE"):
            assert site.write(method, path, None).status_code in (404, 405)


class TestOtherOrigins:
    @pytest.mark.parametrize("origin", [EVIL, "null", "http://localhost", f"{FRIEND}/", "*", "["])
    def test_that_are_not_listed_get_no_word(self, site: Site, origin: str) -> None:
        for path in READS:
            with site.client.get(
                f"/chat/{path.format(**site.ids)}", headers={"Origin": origin}
            ) as response:
                if path.startswith("api/") and origin != "http://localhost":
                    assert refused(response) == (403, "cross_site"), path
                else:
                    assert response.status_code == 200
                assert not [name for name in response.headers.keys() if "Access-Control" in name]  # noqa: SIM118
                assert "Origin" in response.headers["Vary"]
                assert b"ticket" not in response.data or path.startswith("assets")

    def test_that_are_listed_are_named_and_nobody_else(self, site: Site) -> None:
        for path in READS:
            with site.client.get(
                f"/chat/{path.format(**site.ids)}", headers={"Origin": FRIEND}
            ) as response:
                assert response.headers.getlist("Access-Control-Allow-Origin") == [FRIEND]
                assert "Origin" in response.headers["Vary"]

    def test_none_is_the_default(self, make_host: MakeHost, upstream: FakeUpstream) -> None:
        app = make_host()
        mounted(app, upstream.url)
        client = app.test_client()
        for origin in (FRIEND, EVIL, "null"):
            response = client.options("/chat/api/chat", headers={"Origin": origin})
            assert "Access-Control-Allow-Origin" not in response.headers

    def test_a_host_s_other_routes_get_nothing_of_it(self, app: Flask) -> None:
        app.add_url_rule("/mine", view_func=lambda: "mine", methods=["GET", "POST"])
        response = app.test_client().post("/mine", headers={"Origin": FRIEND})
        assert (response.status_code, response.data) == (200, b"mine")
        assert "Access-Control-Allow-Origin" not in response.headers
        response = app.test_client().post("/mine", headers={"Sec-Fetch-Site": "cross-site"})
        assert response.status_code == 200
