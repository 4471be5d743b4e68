"""What a stranger can store has an end: per conversation, per owner, in all and in time."""

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from chatapp.conversations.ledger import Ledger
from chatapp.conversations.model import Content
from chatapp.conversations.room import delete_unused
from chatapp.conversations.store import Store
from chatapp.database.database import Database
from chatapp.errors import InvalidRequest, StorageFull
from chatapp.rates import SqlCounts
from chatapp.service.expiry import Expiry
from chatapp.settings import Settings
from tests.support.databases import Postgres
from tests.support.embedded_app import MakeHost, asked, mounted, refused
from tests.support.hypothesis_settings import FEW, TEXTS
from tests.support.upstream import FakeUpstream

VISITOR = "chatapp/visitor:a"
USER = "chatapp/user:ann"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.processes)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        yield Database(f"sqlite:///{tmp_path}/chat.db", migrates=True)
        return
    server: Postgres = request.getfixturevalue("postgres")
    found = Database(server.database())
    found.migrate()
    yield found
    found.close()


def store_in(database: Database, **bounds: int) -> Store:
    return Store(database, 1000, 1000, Ledger(database, 1e6), **bounds)


def client_of(make_host: MakeHost, upstream: FakeUpstream, **options: Any) -> FlaskClient:
    app = make_host()
    mounted(app, upstream.url, **options)
    return app.test_client()


class TestOneConversation:
    def test_has_a_short_prompt(self, make_host: MakeHost, upstream: FakeUpstream) -> None:
        client = client_of(make_host, upstream)
        made = client.post("/chat/api/conversations").json["id"]
        bodies = [{"settings": {"system_prompt": "长" * length}} for length in (8000, 8001)]
        for at, body in enumerate(bodies):
            replies = [
                client.post("/chat/api/conversations", json=body),
                client.patch(f"/chat/api/conversations/{made}", json=body),
                client.post("/chat/api/chat", json={"message": "a"} | body),
            ]
            for reply in replies:
                assert reply.status_code < 300 if at == 0 else refused(reply) == REFUSED

    def test_gets_its_settings_with_its_first_question(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        client = client_of(make_host, upstream)
        settings = {"system_prompt": "Rhyme.", "temperature": 0.5}
        asked(client, settings=settings | {"top_p": None})
        (call,) = upstream.calls
        assert call.json["messages"][0] == {"role": "system", "content": "Rhyme."}
        assert call.json["temperature"] == 0.5
        (listed,) = client.get("/chat/api/conversations").json["conversations"]
        read = client.get(f"/chat/api/conversations/{listed['id']}").json
        assert read["settings"] == settings

    @pytest.mark.parametrize(
        "body",
        [
            {"message": "a", "conversation_id": "x"},
            {"messages": [{"role": "user", "content": "a"}]},
            {"regenerate": "x"},
        ],
        ids=str,
    )
    def test_takes_no_settings_with_another_question(
        self, make_host: MakeHost, upstream: FakeUpstream, body: dict[str, Any]
    ) -> None:
        client = client_of(make_host, upstream)
        response = client.post("/chat/api/chat", json=body | {"settings": {}})
        assert refused(response) == REFUSED

    def test_that_is_refused_leaves_no_settings(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        client = client_of(make_host, upstream, rate_limit="1/hour")
        body = {"message": "a", "settings": {"system_prompt": "x" * 8000}}
        codes = [client.post("/chat/api/chat", json=body).status_code for _ in range(5)]
        assert codes == [202, 429, 429, 429, 429]
        assert len(client.get("/chat/api/conversations").json["conversations"]) == 1

    def test_without_a_question_is_one_of_a_thousand_an_hour(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        """From one address, whatever cookies it sends."""
        assert Settings().new_conversations == "1000/hour"
        app = make_host()
        mounted(app, upstream.url, new_conversations="3/hour")
        replies = [app.test_client().post("/chat/api/conversations") for _ in range(5)]
        assert [each.status_code for each in replies] == [201, 201, 201, 429, 429]


REFUSED = (400, "invalid_request")


class TestOneOwner:
    def test_has_so_many_messages(self, database: Database) -> None:
        store = store_in(database, max_owned_messages=4)
        first = store.ask(VISITOR, None, Content("a"), "one", None)
        store.update("one", status="done")
        store.ask(VISITOR, None, Content("a"), "two", None)
        for conversation in (None, first.id):
            with pytest.raises(InvalidRequest, match="4 messages"):
                store.ask(VISITOR, conversation, Content("a"), "three", None)
        with pytest.raises(InvalidRequest, match="4 messages"):
            store.ask_again(VISITOR, "one", "three")
        store.ask(USER, None, Content("a"), "four", None)
        store.delete(VISITOR, first.id)
        store.ask(VISITOR, None, Content("a"), "three", None)


class TestTheDatabase:
    def test_holds_so_many_bytes(self, database: Database) -> None:
        used = store_in(database).room.used()
        room = 400_000
        store = store_in(database, max_bytes=used + room)
        settings = {"system_prompt": "x" * 8000}
        made = [store.create(VISITOR, settings=settings).id]

        def fill() -> None:
            while len(made) < 1000:
                store.room._measured_at = float("-inf")
                made.append(store.create(VISITOR, settings=settings).id)

        with pytest.raises(StorageFull) as raised:
            fill()
        assert (raised.value.code, raised.value.status) == ("storage_full", 507)
        assert 0 < len(made) < 1000
        with pytest.raises(StorageFull):
            store.ask(USER, None, Content("a"), "one", None)
        with pytest.raises(StorageFull):
            store.ask(VISITOR, made[0], Content("a"), "one", None)
        assert store.room.used() < used + 2 * room

    def test_takes_more_when_something_was_deleted(self, tmp_path: Path) -> None:
        database = Database(f"sqlite:///{tmp_path}/chat.db", migrates=True)
        store = store_in(database, max_bytes=store_in(database).room.used() + 100_000)
        made = store.create(VISITOR, settings={"system_prompt": "x" * 200_000})
        with pytest.raises(StorageFull):
            store.create(VISITOR)
        store.delete(VISITOR, made.id)
        store.create(VISITOR)

    def test_that_is_full_is_told_to_clients_and_operators(
        self, make_host: MakeHost, upstream: FakeUpstream
    ) -> None:
        client = client_of(make_host, upstream, storage_max_bytes=1)
        for path, body in (("chat", {"message": "a"}), ("conversations", {})):
            response = client.post(f"/chat/api/{path}", json=body)
            assert refused(response) == (507, "storage_full")
        assert upstream.calls == []
        metrics = client.get("/chat/metrics").text
        assert "\nchatapp_storage_max_bytes 1\n" in metrics
        [line] = [
            each for each in metrics.splitlines() if each.startswith("chatapp_storage_bytes ")
        ]
        assert int(line.split()[1]) > 1

    @FEW
    @given(TEXTS | st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF)))
    def test_keeps_json_in_utf8(self, text: str) -> None:
        database = Database("sqlite://", migrates=True)
        store = store_in(database)
        made = store.create(VISITOR, settings={"model": text})
        column = sa.text("SELECT settings FROM chatapp_conversations")
        stored = str(database.run(lambda connection: connection.scalar(column)))
        plain = text.encode("utf-8", "replace").decode()
        assert stored == json.dumps({"model": plain}, ensure_ascii=False)
        assert store.get(VISITOR, made.id).settings == {"model": plain}


class TestTime:
    """Visitors' conversations go when nobody has used them for long; users' stay."""

    @staticmethod
    def aged(store: Store, database: Database, owner: str, days: float, *, empty: bool) -> str:
        """A conversation that was used last so long ago."""
        if empty:
            made = store.create(owner)
        else:
            made = store.ask(owner, None, Content("a"), f"answer {owner} {days}", None)
            store.update(f"answer {owner} {days}", status="done")
        moment = (datetime.now(UTC) - timedelta(days=days)).timestamp() * 1_000_000
        change = sa.text("UPDATE chatapp_conversations SET updated_at = :at WHERE id = :id")
        given = {"at": int(moment), "id": made.id}
        database.run(lambda connection: connection.execute(change, given).rowcount)
        return made.id

    @staticmethod
    def kept(store: Store, *owners: str) -> set[str]:
        return {each.id for owner in owners for each in store.page(owner, None, 200)[0]}

    @pytest.mark.parametrize("empty", [True, False])
    def test_has_an_end_for_visitors(self, database: Database, empty: bool) -> None:
        store = store_in(database)
        other = "support/visitor:a"
        age = 0.06 if empty else 31  # days
        old = self.aged(store, database, VISITOR, age, empty=empty)
        stays = {
            self.aged(store, database, VISITOR, age / 4, empty=empty),
            self.aged(store, database, USER, 400, empty=empty),
            self.aged(store, database, other, 400, empty=empty),
        }
        Expiry(Settings(), database, "chatapp").expire()
        assert old not in self.kept(store, VISITOR)
        assert self.kept(store, VISITOR, USER, other) == stays

    def test_does_not_end_what_is_being_answered(self, database: Database) -> None:
        store = store_in(database)
        store.ask(VISITOR, None, Content("a"), "running", None)
        later = datetime.now(UTC) + timedelta(days=1)
        assert delete_unused(database, "chatapp/visitor:", later, 10, only_empty=False) == 0
        store.update("running", status="done")
        assert delete_unused(database, "chatapp/visitor:", later, 10, only_empty=True) == 0
        assert delete_unused(database, "chatapp/visitor:", later, 10, only_empty=False) == 1

    def test_can_be_switched_off(self, database: Database) -> None:
        store = store_in(database)
        old = self.aged(store, database, VISITOR, 4000, empty=False)
        never = Settings(visitor_age=0, empty_age=0)
        Expiry(never, database, "chatapp").expire()
        assert self.kept(store, VISITOR) == {old}

    def test_is_looked_after_by_one_worker_in_small_steps(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rounds: list[int] = []

        def noted(*given: Any, **more: Any) -> int:
            rounds.append(delete_unused(*given, **more))
            return rounds[-1]

        monkeypatch.setattr("chatapp.service.expiry.delete_unused", noted)
        monkeypatch.setattr("chatapp.service.expiry.BATCH", 2)
        store = store_in(database)
        for _ in range(5):
            self.aged(store, database, VISITOR, 1, empty=True)
        workers = [Expiry(Settings(), database, "chatapp") for _ in range(3)]
        for worker in workers:
            worker._work()
        assert rounds == [2, 2, 1, 0, 0]
        assert self.kept(store, VISITOR) == set()

    def test_takes_the_counts_that_are_over(self, database: Database) -> None:
        counts = SqlCounts(database)
        fill = sa.text("INSERT INTO chatapp_rates VALUES (:key, :ends_at, 1)")
        rows = [{"key": str(n), "ends_at": n} for n in range(10)]
        database.run(lambda connection: connection.execute(fill, rows).rowcount)
        counts.tidy()
        left = sa.text("SELECT count(*) FROM chatapp_rates")
        assert database.run(lambda connection: connection.scalar(left)) == 0

    def test_ends_in_a_server_too(self, make_host: MakeHost, upstream: FakeUpstream) -> None:
        """The page's own visitor finds nothing after the age."""
        app = make_host()
        mounted(app, upstream.url, empty_age=0.001)
        client = app.test_client()
        client.post("/chat/api/conversations")
        chat = app.extensions["chatapp"]
        chat.service.expiry.expire()
        assert client.get("/chat/api/conversations").json["conversations"] == []
        database = sqlite3.connect(Path(app.instance_path) / "chat.db")
        assert database.execute("SELECT count(*) FROM chatapp_conversations").fetchone() == (0,)
        database.close()
