"""Who asks too much is told when to come back; a storage that fails refuses nobody."""

import logging
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from chatapp.database.database import Database
from chatapp.errors import ConfigError, QuotaUsed, RateLimited
from chatapp.identity.payers import Payer
from chatapp.rates import memory, open_counts
from chatapp.rates.redis import SECONDS, RedisCounts
from chatapp.service import limits as module
from chatapp.service.limits import Limits
from chatapp.settings import Settings
from tests.support.hypothesis_settings import FEW, TEXTS
from tests.support.redis_server import RedisServer


class World:
    """What the limits ask: the time, and what was used."""

    def __init__(self) -> None:
        self.database = Database("sqlite://", migrates=True)
        self.now = datetime(2024, 2, 29, 21, 30, tzinfo=UTC)
        self.tokens: Counter[str] = Counter()
        self.asked_since: list[datetime] = []

    def limits(self, scope: str = "", **options: Any) -> Limits:
        settings = Settings(**options)
        counts = open_counts(settings.rate_limit_storage, self.database)
        return Limits(settings, counts, self.tokens_since, scope, lambda: self.now)

    def tokens_since(self, owner: str, moment: datetime) -> int:
        self.asked_since.append(moment)
        return self.tokens[owner]


def newcomer(name: str) -> Payer:
    return Payer(f"visitor:{name}", "127.0.0.1", is_new=True)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(params=["memory", "database", pytest.param("redis", marks=pytest.mark.processes)])
def storage(request: pytest.FixtureRequest) -> str | None:
    if request.param == "memory":
        return "memory://"
    if request.param == "database":
        return None
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


@pytest.fixture
def scope(request: pytest.FixtureRequest) -> str:
    """Counts of its own for each test."""
    return f"{request.node.name}-{time.time_ns()}"


def admitted(limits: Limits, owner: str, most: int = 50) -> int:
    """How many questions in a row are."""
    for count in range(most):
        try:
            limits.check(Payer(owner))
        except RateLimited:
            return count
    return most


def test_by_default_a_visitor_asks_as_much_as_they_like(world: World) -> None:
    assert admitted(world.limits(), "ann") == 50
    assert world.asked_since == []


class TestRates:
    def test_each_owner_may_ask_so_much_and_is_told_when_to_come_back(
        self, world: World, storage: str | None, scope: str
    ) -> None:
        limits = world.limits(scope, rate_limit="3/hour", rate_limit_storage=storage)
        assert admitted(limits, "ann") == 3
        with pytest.raises(RateLimited) as raised:
            limits.check(Payer("ann"))
        assert raised.value.retry_after is not None
        assert 0 < raised.value.retry_after <= 3600
        assert raised.value.retry_after == int(raised.value.retry_after)
        assert admitted(limits, "bob") == 3

    def test_the_narrowest_of_several_rates_holds(
        self, world: World, storage: str | None, scope: str
    ) -> None:
        rate = "100/hour; 2 per day"
        limits = world.limits(scope, rate_limit=rate, rate_limit_storage=storage)
        assert admitted(limits, "ann") == 2

    def test_all_together_may_ask_so_much_and_who_is_refused_does_not_count(
        self, world: World, storage: str | None, scope: str
    ) -> None:
        options = {"rate_limit": "2/hour", "rate_limit_all": "5/hour"}
        limits = world.limits(scope, rate_limit_storage=storage, **options)
        assert [admitted(limits, owner) for owner in ("ann", "bob", "cai", "dan")] == [2, 2, 1, 0]

    def test_chats_with_different_scopes_count_apart(
        self, world: World, storage: str | None, scope: str
    ) -> None:
        options = {"rate_limit": "2/hour", "rate_limit_storage": storage}
        one, other = world.limits(scope, **options), world.limits(scope + "2", **options)
        assert (admitted(one, "ann"), admitted(other, "ann")) == (2, 2)

    def test_conversations_are_counted_apart_from_questions(
        self, world: World, storage: str | None, scope: str
    ) -> None:
        options = {"rate_limit": "2/hour", "rate_limit_all": "3/hour"}
        limits = world.limits(scope, rate_limit_storage=storage, **options)
        limits.check_conversation(Payer("ann"))
        limits.check_conversation(Payer("ann"))
        with pytest.raises(RateLimited, match="too many conversations") as raised:
            limits.check_conversation(Payer("ann"))
        assert raised.value.retry_after is not None
        assert 0 < raised.value.retry_after <= 3600
        limits.check_conversation(Payer("bob"))
        with pytest.raises(RateLimited, match="Too many conversations"):
            limits.check_conversation(Payer("cai"))
        assert [admitted(limits, owner) for owner in ("ann", "bob")] == [2, 1]

    def test_workers_with_the_same_redis_count_together(
        self, world: World, redis_server: RedisServer, scope: str
    ) -> None:
        options = {"rate_limit": "3/hour", "rate_limit_storage": redis_server.url}
        one, other = world.limits(scope, **options), world.limits(scope, **options)
        one.check(Payer("ann"))
        assert (admitted(other, "ann"), admitted(one, "ann")) == (2, 0)

    def test_a_newcomer_is_counted_by_another_name(self, world: World) -> None:
        """Without a cookie each request has a new owner, who would never meet a limit."""
        limits = world.limits(rate_limit="2/hour", rate_limit_storage="memory://")
        limits.check(newcomer("1"))
        limits.check(newcomer("2"))
        with pytest.raises(RateLimited):
            limits.check(newcomer("3"))
        limits.check(Payer("visitor:3"))

    @FEW
    @given(TEXTS, TEXTS)
    def test_owners_are_told_apart_whatever_they_are_called(self, one: str, other: str) -> None:
        limits = World().limits(rate_limit="1/hour", rate_limit_storage="memory://")
        limits.check(Payer(one))
        with pytest.raises(RateLimited):
            limits.check(Payer(one))
        if other != one:
            limits.check(Payer(other))

    def test_the_storage_learns_no_names(
        self, world: World, redis_server: RedisServer, scope: str
    ) -> None:
        limits = world.limits(scope, rate_limit="1/hour", rate_limit_storage=redis_server.url)
        limits.check(Payer("ann@example.org"))
        keys = redis.Redis.from_url(redis_server.url).keys("*")
        assert any(scope.encode() in key for key in keys)
        assert not any(b"ann" in key for key in keys)

    def test_the_memory_for_counts_is_bounded_and_the_count_of_all_is_kept(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(memory, "MAX_KEYS", 100)
        options = {"rate_limit": "1/hour", "rate_limit_all": "250/hour"}
        limits = world.limits(rate_limit_storage="memory://", **options)
        for number in range(250):
            limits.check(Payer(f"visitor:{number}"))
        counts = limits._rates._counts
        assert isinstance(counts, memory.MemoryCounts)
        assert len(counts) <= 101
        with pytest.raises(RateLimited, match="You have asked"):
            limits.check(Payer("visitor:249"))
        with pytest.raises(RateLimited, match="getting too many"):
            limits.check(Payer("visitor:0"))


class TestStorageTrouble:
    def test_nobody_is_refused_and_the_log_says_it_once(
        self,
        world: World,
        own_redis: RedisServer,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        limits = world.limits("trouble", rate_limit="2/hour", rate_limit_storage=own_redis.url)
        assert admitted(limits, "ann") == 2
        own_redis.stop()
        try:
            assert admitted(limits, "ann") == 50
            (record,) = caplog.records
            assert record.levelno == logging.ERROR
            assert "nobody is limited" in record.getMessage()
        finally:
            own_redis.start()
        monkeypatch.setattr(limits._rates, "_trusted_from", 0.0)
        assert admitted(limits, "bob") == 2

    def test_one_that_does_not_answer_is_not_waited_for(
        self, world: World, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The wait for a frozen one ends by itself, and happens once."""
        limits = world.limits("frozen", rate_limit="2/hour", rate_limit_storage=own_redis.url)
        limits.check(Payer("ann"))
        counts = limits._rates._counts
        assert isinstance(counts, RedisCounts)
        given = counts.pool.connection_kwargs
        assert {given[f"socket_{each}timeout"] for each in ("", "connect_")} == {SECONDS}
        own_redis.freeze()
        try:
            assert admitted(limits, "ann") == 50
        finally:
            own_redis.thaw()
        assert len(caplog.records) == 1


class TestOptions:
    @pytest.mark.parametrize("name", ["rate_limit", "rate_limit_all"])
    @pytest.mark.parametrize("rate", ["often", "20", "20/fortnight", "/minute", "-1/minute"])
    def test_a_rate_that_is_none_is_refused_with_an_example(
        self, world: World, name: str, rate: str
    ) -> None:
        with pytest.raises(ConfigError, match=f"CHATAPP_{name.upper()}=.*20/minute;200/day"):
            world.limits(**{name: rate})

    @pytest.mark.parametrize(
        "url", ["", "nowhere://secret@host", "async+memory://", "redis://:secret@host:port"]
    )
    def test_a_storage_that_can_not_be_used_is_refused_without_its_password(
        self, world: World, url: str
    ) -> None:
        with pytest.raises(ConfigError, match="CHATAPP_RATE_LIMIT_STORAGE") as raised:
            world.limits(rate_limit="1/minute", rate_limit_storage=url)
        assert "secret" not in str(raised.value)


class TestTokens:
    def test_the_quota_is_of_the_day_in_utc_and_says_when_there_is_more(self, world: World) -> None:
        limits = world.limits(tokens_per_day=100)
        world.tokens.update(ann=99, bob=100)
        limits.check(Payer("ann"))
        with pytest.raises(QuotaUsed, match="Come back in 3 h") as raised:
            limits.check(Payer("bob"))
        assert raised.value.retry_after == 2.5 * 3600
        assert world.asked_since == [datetime(2024, 2, 29, tzinfo=UTC)] * 2

    @FEW
    @given(st.datetimes(timezones=st.just(UTC), max_value=datetime(9000, 1, 1)))
    def test_the_wait_ends_with_the_day(self, now: datetime) -> None:
        world = World()
        world.now = now
        world.tokens["ann"] = 1
        with pytest.raises(QuotaUsed) as raised:
            world.limits(tokens_per_day=1).check(Payer("ann"))
        wait = raised.value.retry_after
        assert wait is not None
        assert 0 < wait <= 86_400
        assert (now.hour * 3600 + now.minute * 60 + now.second) + wait in (86_400, 86_401)


def test_who_is_refused_for_another_reason_has_not_used_up_a_question(world: World) -> None:
    limits = world.limits(rate_limit="1/hour", tokens_per_day=1)
    world.tokens.update(ann=1)
    with pytest.raises(QuotaUsed):
        limits.check(Payer("ann"))
    world.tokens.clear()
    limits.check(Payer("ann"))


@pytest.mark.parametrize(
    ("seconds", "spoken"),
    [(0.2, "1 s"), (59, "59 s"), (60, "1 min"), (61, "2 min"), (3600, "1 h"), (86_400, "24 h")],
)
def test_a_wait_is_told_so_that_it_is_long_enough(seconds: float, spoken: str) -> None:
    assert module._spoken(seconds) == spoken
