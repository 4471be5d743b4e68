"""No rate is passed by new cookies, other addresses, many requests at once, or many owners."""

import ipaddress
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, session
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.middleware.proxy_fix import ProxyFix

from chatapp.database.database import Database
from chatapp.errors import RateLimited
from chatapp.identity.payers import Payer, network_of
from chatapp.rates import Charge, Counts, Rate, memory, open_counts
from chatapp.service.limits import DEFAULT_TOKENS, DEFAULTS, Limits
from chatapp.settings import Settings
from tests.support.client import Client
from tests.support.embedded_app import MakeHost, mounted, refused
from tests.support.gunicorn import Gunicorn
from tests.support.hypothesis_settings import FEW
from tests.support.redis_server import RedisServer
from tests.support.upstream import FakeUpstream, poll

QUESTION = {"message": "a"}


@pytest.fixture(params=["memory", "database", pytest.param("redis", marks=pytest.mark.processes)])
def open_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Counts]:
    """Opens the counts as another worker would; those in memory are one worker's."""
    if request.param == "memory":
        only = open_counts("memory://", Database("sqlite://"))
        return lambda: only
    if request.param == "database":
        file = f"sqlite:///{tmp_path}/chat.db"
        return lambda: open_counts(None, Database(file, migrates=True))
    server: RedisServer = request.getfixturevalue("own_redis")
    return lambda: open_counts(server.url, Database("sqlite://"))


def ask(client: FlaskClient, address: str = "192.0.2.1", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    environ = {"REMOTE_ADDR": address}
    return client.post("/chat/api/chat", json=QUESTION, headers=named, environ_base=environ)


def with_new_cookie(app: Flask, address: str = "192.0.2.1") -> FlaskClient:
    """Somebody who has just fetched a cookie."""
    client = app.test_client()
    fetched = client.get("/chat/api/conversations", environ_base={"REMOTE_ADDR": address})
    assert fetched.status_code == 200
    return client


def codes(replies: list[Any]) -> list[int]:
    return [each.status_code for each in replies]


class TestNewCookies:
    def test_do_not_make_somebody_else_of_an_address(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        app = make_host()
        mounted(app, upstream.url, rate_limit="2/hour")
        replies = [ask(with_new_cookie(app)) for _ in range(30)]
        assert codes(replies) == [202] * 2 + [429] * 28
        assert refused(replies[-1]) == (429, "rate_limited")
        assert 3500 < int(replies[-1].headers["Retry-After"]) <= 3600
        assert len(upstream.calls) == 2
        assert ask(with_new_cookie(app, "192.0.2.2"), "192.0.2.2").status_code == 202

    def test_nor_do_they_for_conversations(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        app = make_host()
        mounted(app, upstream.url, new_conversations="2/hour")
        replies = [with_new_cookie(app).post("/chat/api/conversations") for _ in range(5)]
        assert codes(replies) == [201, 201, 429, 429, 429]

    def test_are_themselves_limited_by_address(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        app = make_host()
        mounted(app, upstream.url, new_visitors="2/hour")
        known = with_new_cookie(app)
        with_new_cookie(app)
        replies = [app.test_client().get("/chat/", environ_base=_from(1)) for _ in range(3)]
        assert codes(replies) == [429] * 3
        assert all("Set-Cookie" not in each.headers for each in replies)
        assert "Retry-After" in replies[0].headers
        assert known.get("/chat/", environ_base=_from(1)).status_code == 200
        assert app.test_client().get("/chat/", environ_base=_from(2)).status_code == 200

    def test_an_address_may_have_a_rate_of_its_own(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        """So that the people of an office don't share one person's."""
        app = make_host()
        mounted(app, upstream.url, rate_limit="2/hour", rate_limit_address="5/hour")
        replies = [ask(client) for client in [with_new_cookie(app)] * 3]
        replies += [ask(with_new_cookie(app)) for _ in range(4)]
        assert codes(replies) == [202, 202, 429, 202, 202, 202, 429]


def _from(number: int) -> dict[str, str]:
    return {"REMOTE_ADDR": f"192.0.2.{number}"}


class TestAddresses:
    def test_what_a_client_says_of_its_address_is_not_believed(
        self, make_host: MakeHost, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
    ) -> None:
        app = make_host()
        mounted(app, upstream.url, rate_limit="2/hour")
        names = ("X_Forwarded_For", "X_Real_IP", "Forwarded", "X_Client_IP", "CF_Connecting_IP")
        replies = [
            ask(with_new_cookie(app), **dict.fromkeys(names, f"192.0.2.{n}")) for n in range(6)
        ]
        assert codes(replies) == [202, 202, 429, 429, 429, 429]
        assert caplog.text.count("CHATAPP_TRUSTED_PROXIES") == 1

    def test_what_a_trusted_proxy_says_is_and_only_that(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        app = make_host()
        mounted(app, upstream.url, rate_limit="1/hour")
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1)  # type: ignore[method-assign]
        says = [f"10.0.0.{n}, 192.0.2.7" for n in range(3)] + ["192.0.2.8"]
        replies = [ask(app.test_client(), "127.0.0.1", X_Forwarded_For=each) for each in says]
        assert codes(replies) == [202, 429, 429, 202]

    @FEW
    @given(st.lists(st.integers(0, 2**64 - 1), min_size=3, max_size=8), st.integers(0, 2**64 - 1))
    def test_one_network_of_ipv6_is_one_address(self, hosts: list[int], network: int) -> None:
        limits = _limits("memory://", rate_limit="2/hour")
        passed = 0
        for number, at in enumerate(hosts):
            address = ipaddress.IPv6Address(0x2001 << 112 | network >> 16 << 64 | at)
            passed += _passes(limits, _visitor(str(number), str(address)))
        assert passed == 2


def _limits(place: str | Counts, **options: Any) -> Limits:
    counts = open_counts(place, Database("sqlite://")) if isinstance(place, str) else place
    return Limits(Settings(**options), counts, lambda _owner, _since: 0)


def _visitor(name: str, address: str) -> Payer:
    return Payer(f"chat/visitor:{name}", network_of(address))


def _passes(limits: Limits, payer: Payer) -> bool:
    try:
        limits.check(payer)
    except RateLimited:
        return False
    return True


class TestEveryPlace:
    """Of counts: in memory, in the database, in Redis."""

    def test_of_many_at_once_no_more_pass_than_may(self, open_place: Callable[[], Counts]) -> None:
        workers = [open_place() for _ in range(3)]
        charges = [
            Charge("owner", Rate(7, 3600)),
            Charge("address", Rate(9, 3600)),
            Charge("all", Rate(20, 3600), is_shared=True),
        ]
        passed: list[bool] = []
        begin = threading.Barrier(12)

        def some(counts: Counts) -> None:
            begin.wait()
            passed.extend(counts.take(charges) is None for _ in range(5))

        threads = [threading.Thread(target=some, args=(workers[n % 3],)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(passed), sum(passed)) == (60, 7)

    def test_who_is_refused_adds_to_no_count(self, open_place: Callable[[], Counts]) -> None:
        counts = open_place()
        full, other = Charge("full", Rate(1, 3600)), Charge("other", Rate(2, 3600))
        assert counts.take([full]) is None
        for _ in range(5):
            refusal = counts.take([other, full])
            assert refusal is not None
            assert refusal.charge == full
            assert 3590 < refusal.wait <= 3600
        assert [counts.take([other]) is None for _ in range(3)] == [True, True, False]

    def test_many_owners_reset_nothing(
        self, open_place: Callable[[], Counts], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Thousands who are refused are no entry, and those who pass leave the count of all."""
        monkeypatch.setattr(memory, "MAX_KEYS", 5)
        limits = _limits(open_place(), rate_limit="1/hour", rate_limit_all="10/hour")
        assert [_passes(limits, Payer(f"first {n}")) for n in range(12)] == [True] * 10 + [
            False
        ] * 2
        assert not any(_passes(limits, Payer(f"then {n}")) for n in range(200))
        assert not _passes(limits, Payer("first 0"))


@FEW
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("12"), st.booleans())))
def test_whatever_the_order_each_passes_as_often_as_the_narrowest_count_allows(
    visits: list[tuple[str, str, bool]],
) -> None:
    limits = _limits("memory://", rate_limit="2/hour", rate_limit_address="3/hour")
    model: Counter[str] = Counter()
    for name, last, is_new in visits:
        payer = Payer(f"chat/visitor:{name}", f"192.0.2.{last}", is_new)
        most = {key: 2 if key == payer.owner else 3 for key in payer.keys}
        allowed = all(model[key] < most[key] for key in payer.keys)
        assert _passes(limits, payer) == allowed
        model.update(payer.keys if allowed else ())


class TestByDefault:
    KEYS = ({"api_key": "sk-1"}, {"azure_api_key": "k"}, {"azure_ad_token": "t"})

    @pytest.mark.parametrize("key", KEYS, ids=str)
    def test_visitors_are_limited_where_questions_may_cost_money(self, key: dict[str, str]) -> None:
        limits = _limits("memory://", **key)
        visitor = Payer("chat/visitor:a", "192.0.2.1")
        assert sum(_passes(limits, visitor) for _ in range(50)) == 20
        assert DEFAULTS["rate_limit"].startswith("20/minute")
        assert str(DEFAULT_TOKENS) in limits.told()
        user = Payer("chat/user:ann")
        assert all(_passes(limits, user) for _ in range(50))

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"base_url": "https://api.example/v1"},
            {"api_key": "sk-1", "base_url": "http://127.0.0.1:11434/v1"},
            {"api_key": "sk-1", "base_url": "http://[::1]:8000/v1"},
            {"api_key": "sk-1", "base_url": "http://localhost/v1"},
            {"api_key": "sk-1", "rate_limit": "0", "rate_limit_all": "0"},
        ],
        ids=str,
    )
    def test_nobody_is_where_they_cost_nothing_or_that_was_decided(
        self, options: dict[str, str]
    ) -> None:
        limits = _limits("memory://", **options)
        visitor = Payer("chat/visitor:a", "192.0.2.1")
        assert all(_passes(limits, visitor) for _ in range(300))

    def test_what_holds_is_one_line_at_the_start(self, tmp_path: Path) -> None:
        server = Gunicorn("https://api.example/v1", tmp_path)
        try:
            [line] = poll(
                lambda: [each for each in server.lines if "limits of a visitor" in each], 60
            )
        finally:
            server.stop()
        for part in (*DEFAULTS.values(), f"{DEFAULT_TOKENS} tokens"):
            assert part in line


class TestSeveralWorkers:
    """Each connection may reach another one."""

    @staticmethod
    def passed(upstream: FakeUpstream, folder: Path, **env: str) -> int:
        server = Gunicorn(upstream.url, folder, "-w", "2", CHATAPP_RATE_LIMIT="5/hour", **env)
        try:
            poll(lambda: server.log.count("limits of a visitor") == 2, 60)
            statuses = [
                Client(server.url).call("POST", "/api/chat", QUESTION).status for _ in range(30)
            ]
        finally:
            server.stop()
        assert set(statuses) == {202, 429}
        return statuses.count(202)

    def test_count_together_in_the_database(self, upstream: FakeUpstream, tmp_path: Path) -> None:
        assert self.passed(upstream, tmp_path) == 5

    @pytest.mark.processes
    def test_count_together_in_redis(
        self, upstream: FakeUpstream, tmp_path: Path, own_redis: RedisServer
    ) -> None:
        url = own_redis.url
        assert self.passed(upstream, tmp_path, CHATAPP_RATE_LIMIT_STORAGE=url) == 5

    def test_count_each_for_itself_in_memory(self, upstream: FakeUpstream, tmp_path: Path) -> None:
        passed = self.passed(upstream, tmp_path, CHATAPP_RATE_LIMIT_STORAGE="memory://")
        assert 5 <= passed <= 10


def test_who_has_signed_in_does_not_pay_for_the_address(
    make_host: MakeHost, upstream: FakeUpstream
) -> None:
    app = make_host()
    mounted(app, upstream.url, rate_limit="1/hour").owner(lambda: session.get("id"))
    for name in ("ann", "bob", "cai"):
        client = app.test_client()
        with client.session_transaction() as kept:
            kept["id"] = name
        assert codes([ask(client) for _ in range(2)]) == [202, 429]
