"""What a browser is told with every reply, which cookie it is given, and whose pages may read."""

import functools
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import expect

from tests.support import pages
from tests.support.browser import Visits
from tests.support.client import Client
from tests.support.embedded_app import MakeHost, asked, host, mounted, refused
from tests.support.hypothesis_settings import FEW
from tests.support.pages import converse, text_of
from tests.support.shared_server import Site
from tests.support.upstream import FakeUpstream, speak

browser, visits = pages.browser, pages.visits

FRIEND = "https://friend.example"
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
PAGES = ("/", "/c/abc", "/api/page")
DATA = (
    "/api/conversations",
    "/api/conversations/none",
    "/api/answers/none",
    "/api/answers/none/events",
    "/api/models",
    "/api/nothing",
    "/nothing",
    "/assets/nothing.js",
    "/healthz",
    "/readyz",
    "/metrics",
)
ORIGINS = r"https?://[a-z]{1,9}\.example(:[0-9]{1,4})?"
READS = (
    "api/conversations",
    "api/conversations/none",
    "api/answers/none",
    "api/answers/none/events",
    "api/models",
    "api/events",
    "api/page",
)


@pytest.fixture(scope="module")
def site(start_site: Callable[..., Site]) -> Site:
    return start_site()


@pytest.fixture
def app(make_host: MakeHost, upstream: FakeUpstream) -> Flask:
    app = make_host(CHATAPP_CORS_ORIGINS=FRIEND)
    mounted(app, upstream.url)
    return app


def words(value: str | None) -> set[str]:
    return {each.strip().lower() for each in (value or "").split(",")}


class TestHeaders:
    def check(self, headers: Any) -> None:
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert {"private", "no-store"} <= words(headers["Cache-Control"])
        assert "cookie" in words(headers["Vary"])
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"

    def test_of_data_let_nothing_run_or_be_kept(self, site: Site) -> None:
        client = site.visitor()
        for path in DATA:
            for method in ("GET", "HEAD", "POST", "OPTIONS"):
                headers = client.call(method, path).headers
                self.check(headers)
                assert headers["Content-Security-Policy"] == DATA_POLICY, (method, path)

    def test_of_streams_as_well_and_proxies_change_nothing_in_them(self, site: Site) -> None:
        site.upstream.script = speak("Hi")
        client = site.visitor()
        path = client.ask()["events"]
        for stream in (client.ask_streaming(), client.stream(path), client.stream("/api/events")):
            self.check(stream.headers)
            assert "no-transform" in words(stream.headers["Cache-Control"])
            assert stream.headers["X-Accel-Buffering"] == "no"
            assert stream.headers["Content-Security-Policy"] == DATA_POLICY
            stream.close()

    def test_of_the_page_keep_it_apart(self, site: Site) -> None:
        for path in PAGES:
            headers = site.visitor().get(path).headers
            self.check(headers)
            policy = headers["Content-Security-Policy"]
            for directive in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'self'"):
                assert directive in policy
            assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
            for feature in ("camera", "microphone", "geolocation"):
                assert f"{feature}=()" in headers["Permissions-Policy"]

    def test_of_files_let_them_be_kept(self, site: Site) -> None:
        headers = site.visitor().get("/assets/chat.js").headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "no-store" not in headers["Cache-Control"]

    def test_do_not_hinder_the_page(self, visits: Visits, site: Site) -> None:
        """`visits` fails for any complaint in the console."""
        site.upstream.script = speak("It works.")
        page = visits.open(site.url)
        converse(page, "Does it work?")
        assert text_of(page) == "It works."
        page.reload()
        expect(page.locator('[data-chat="answer"]')).to_have_count(1)
        assert page.evaluate("[isSecureContext, crossOriginIsolated]") == [True, False]


class TestCookies:
    @pytest.mark.parametrize(
        ("mount", "base", "name"),
        [
            ("", "https://localhost", "__Host-chatapp_visitor"),
            ("", "http://localhost", "chatapp_visitor"),
            ("/chat", "https://localhost", "__Secure-chatapp_visitor"),
            ("/chat", "https://localhost/tea", "__Secure-chatapp_visitor"),
            ("/chat", "http://localhost", "chatapp_visitor"),
        ],
    )
    def test_are_of_this_host_alone_over_https(
        self, make_host: MakeHost, upstream: FakeUpstream, mount: str, base: str, name: str
    ) -> None:
        app = make_host()
        mounted(app, upstream.url, prefix=mount or None)
        client = app.test_client(use_cookies=False)
        look = functools.partial(client.get, f"{mount}/api/conversations", base_url=base)
        cookie = look().headers["Set-Cookie"]
        assert cookie.startswith(f"{name}=")
        assert "Domain" not in cookie
        assert ("Secure" in cookie.partition(";")[2]) == base.startswith("https")
        pair = cookie.partition(";")[0]
        assert "Set-Cookie" not in look(headers={"Cookie": pair}).headers
        # What anybody can set for the domain is not looked at over https.
        value = pair.partition("=")[2]
        if base.startswith("https"):
            plain = {"Cookie": f"chatapp_visitor={value}"}
            assert "Set-Cookie" in look(headers=plain).headers

    def test_that_are_two_of_a_kind_are_refused(self, app: Flask) -> None:
        client = app.test_client(use_cookies=False)
        cookie = client.get("/chat/").headers["Set-Cookie"].partition(";")[0]
        for other in (cookie, "chatapp_visitor=x", "chatapp_visitor=", " chatapp_visitor =x"):
            for header in (f"{cookie}; {other}", f"{other};{cookie}", f"a=b; {other},{cookie}"):
                for path in ("", "api/conversations", "api/page", "api/answers/none"):
                    response = client.get(f"/chat/{path}", headers={"Cookie": header})
                    assert refused(response) == (400, "duplicate_cookie"), header

    @FEW
    @given(
        st.lists(st.sampled_from(["a=b", "x_chatapp_visitor=1", "chatapp_visitor_lab=1", "", "="])),
        st.integers(0, 3),
        st.sampled_from([";", "; ", ","]),
        st.randoms(use_true_random=False),
    )
    def test_count_wherever_they_stand(
        self, given_app: Flask, others: list[str], count: int, separator: str, random: Any
    ) -> None:
        cookies = others + ["chatapp_visitor=x"] * count
        random.shuffle(cookies)
        client = given_app.test_client(use_cookies=False)
        headers = {"Cookie": separator.join(cookies)}
        response = client.get("/chat/api/conversations", headers=headers)
        assert response.status_code == (400 if count > 1 else 200)

    def test_that_come_in_two_lines_are_refused(self, site: Site) -> None:
        two = Client(site.url).send(
            "GET", "/api/models", Cookie="chatapp_visitor=a\r\nCookie: chatapp_visitor=b"
        )
        with two:
            assert two.recv(100).startswith(b"HTTP/1.1 400")


@pytest.fixture(scope="module")
def given_app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    app = host(tmp_path_factory.mktemp("host"))
    mounted(app, "http://127.0.0.1:9/v1")
    return app


class TestReads:
    @FEW
    @given(
        st.sampled_from(READS),
        st.one_of(
            st.fixed_dictionaries({"Sec-Fetch-Site": st.sampled_from(["cross-site", "same-site"])}),
            st.fixed_dictionaries(
                {
                    "Origin": st.from_regex(
                        r"https?://[a-z]{1,9}\.example(:[0-9]{1,4})?", fullmatch=True
                    )
                }
            ),
            st.just({"Origin": "null"}),
            st.just({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}),
            st.just({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}),
            st.just({"Sec-Fetch-Site": "anything"}),
        ),
        st.sampled_from(["GET", "HEAD"]),
    )
    def test_of_other_sites_are_refused(
        self, given_app: Flask, path: str, headers: dict[str, str], method: str
    ) -> None:
        with given_app.test_client().open(
            f"/chat/{path}", method=method, headers=headers
        ) as response:
            assert response.status_code == 403
            assert "Set-Cookie" not in response.headers
            assert method == "HEAD" or refused(response) == (403, "cross_site")

    def test_every_route_of_the_api_is_among_them(self, given_app: Flask) -> None:
        for rule in given_app.url_map.iter_rules():
            if "/chat/api/" in rule.rule and "GET" in (rule.methods or ()):
                path = re.sub("<[^>]+>", "x", rule.rule)
                headers = {"Sec-Fetch-Site": "cross-site"}
                assert refused(given_app.test_client().get(path, headers=headers)) == (
                    403,
                    "cross_site",
                ), path

    def test_links_to_the_page_work(self, app: Flask) -> None:
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        for path in ("", "c/abc", "assets/chat.js", "healthz"):
            with app.test_client().get(f"/chat/{path}", headers=headers) as response:
                assert response.status_code == 200

    def test_of_our_own_page_and_of_listed_sites_are_answered(self, app: Flask) -> None:
        for headers in (
            {"Sec-Fetch-Site": "same-origin"},
            {"Sec-Fetch-Site": "none"},
            {"Sec-Fetch-Site": "cross-site", "Origin": FRIEND},
            {"Origin": "http://localhost"},
            {},
        ):
            response = app.test_client().get("/chat/api/conversations", headers=headers)
            assert response.status_code == 200

    def test_a_ticket_opens_its_answer_to_any_page(self, app: Flask) -> None:
        url: str = (
            app.test_client()
            .post("/chat/api/chat", json={"message": "a"}, headers={"Origin": FRIEND})
            .json["events"]
        )
        elsewhere = {"Sec-Fetch-Site": "cross-site", "Origin": "https://other.example"}
        reader = app.test_client()
        with reader.get(url, headers=elsewhere) as response:
            assert response.status_code == 200
        path, _, ticket = url.partition("?ticket=")
        other = asked(app.test_client())[0].data["answer_id"]
        for wrong in (
            path,
            f"{path}?ticket={ticket}x",
            f"/chat/api/answers/{other}/events?{ticket}",
        ):
            response = reader.get(wrong, headers=elsewhere)
            assert refused(response) == (403, "cross_site")
        response = reader.get(f"/chat/api/models?ticket={ticket}", headers=elsewhere)
        assert refused(response) == (403, "cross_site")
