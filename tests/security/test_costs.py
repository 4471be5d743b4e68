"""What a request costs is in proportion to what it gets, and others are answered meanwhile."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from chatapp.answers import answer as answer_module
from chatapp.answers import live_log
from chatapp.answers.answer import Answer
from chatapp.answers.events import DELTAS, EventType, event_data
from chatapp.answers.live_log import LiveLog
from chatapp.answers.outcome import Transcript
from chatapp.answers.text.granularity import Granularity
from chatapp.answers.text.sentences import SentenceCutter
from chatapp.conversations.searches import Searches
from chatapp.database.database import Database
from chatapp.database.time_limit import TookTooLong, time_limit
from chatapp.delivery.follower import Follower
from chatapp.errors import SearchBusy, TooManyAnswers
from chatapp.views import validation
from tests.support.client import Client, Stream
from tests.support.embedded_app import host, mounted, refused
from tests.support.hypothesis_settings import FEW, SPEECH
from tests.support.in_memory_worker import Worker
from tests.support.shared_server import Site
from tests.support.upstream import Call, FakeUpstream, Script, poll

TEXT, REASONING = EventType.TEXT, EventType.REASONING
LONG = 400_000
"""Characters of a long answer."""


def begun(max_bytes: int = 1 << 22) -> Answer:
    answer = Answer("me", LiveLog(max_bytes), 1 << 22)
    answer.log.append(EventType.START, answer.start_event().data)
    return answer


def end(answer: Answer) -> None:
    answer.log.append(EventType.DONE, event_data({"finish_reason": "stop"}))
    answer.ended_at = 1.0


def everything(feed: Follower) -> bytes:
    wire = b""
    while (data := feed.read()) or feed.more:
        wire += data
    return wire


def follower(answer: Answer, cursor: int | None, granularity: Granularity) -> Follower:
    return Follower(answer, cursor, granularity, lambda: False)


class Searched:
    """How many characters are searched for sentences, and how many at a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.characters = 0
        feed = SentenceCutter.feed

        def counted(cutter: SentenceCutter, text: str) -> list[int]:
            self.characters += len(text)
            return feed(cutter, text)

        monkeypatch.setattr(SentenceCutter, "feed", counted)


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> Searched:
    return Searched(monkeypatch)


@pytest.fixture(scope="module")
def close_checkpoints() -> Iterator[None]:
    """So close that short texts have several."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (answer_module, live_log):
            patch.setattr(module, "SPACING", 7)
        yield


def long_answer() -> Answer:
    answer = begun(1 << 24)
    sentence = ("It", " is", " so", ", he", " said", ".", " And", ' "No', '!"', " 3.", "14\n")
    while len(answer.log.text()) < LONG:
        answer.write([(TEXT, piece) for piece in sentence * 100])
    return answer


class TestResuming:
    """A reader that comes back with a cursor, for sentences or for the whole text."""

    @pytest.mark.parametrize("granularity", ["word", "sentence", "full"])
    def test_searches_what_it_gets_and_a_few_kilobytes(
        self, granularity: str, searched: Searched
    ) -> None:
        answer = long_answer()
        end(answer)
        searched.characters = 0
        feed = follower(answer, answer.log.last - 10, Granularity(granularity))
        assert 0 < len(everything(feed)) < 1000
        assert searched.characters < LONG / 20

    @pytest.mark.parametrize("cursor", [None, 3])
    def test_a_snapshot_searches_as_little(self, cursor: int | None, searched: Searched) -> None:
        answer = begun(20_000)  # The log does not go back to the cursor.
        answer.write([(TEXT, "A word. ")] * (LONG // 8))
        searched.characters = 0
        feed = follower(answer, cursor, Granularity.SENTENCE)
        assert len(everything(feed)) > LONG
        answer.log.append_piece(TEXT, "One more.")
        everything(feed)
        assert searched.characters < LONG / 20

    def test_another_workers_answer_is_searched_once_for_all_readers(
        self, searched: Searched
    ) -> None:
        """And with pauses, in which that worker does other things."""
        answer, written = begun(1 << 24), long_answer()
        for event in written.log.events(1):
            answer.log.append_piece(event.type, event.text)
        pauses: list[int] = []
        searched.characters = 0
        answer.log.cutters_at(answer.log.last, lambda: pauses.append(searched.characters))
        assert max(b - a for a, b in zip([0, *pauses], pauses, strict=False)) < LONG / 20
        searched.characters = 0
        for cursor in range(answer.log.last // 2, answer.log.last, answer.log.last // 10):
            follower(answer, cursor, Granularity.SENTENCE)
        assert searched.characters < LONG / 5

    def test_a_long_text_is_joined_in_parts(self) -> None:
        answer = long_answer()
        feed = follower(answer, 0, Granularity.SENTENCE)
        parts = 0
        while feed.read() or feed.more:
            parts += 1
        assert parts > 20

    @FEW
    @pytest.mark.usefixtures("close_checkpoints")
    @given(
        st.lists(st.tuples(st.sampled_from(sorted(DELTAS)), SPEECH.filter(bool)), max_size=20),
        st.integers(0, 10_000),
        st.sampled_from(Granularity),
        st.sampled_from(["written", "replicated", "trimmed", "restarted"]),
    )
    def test_gives_the_same_with_and_without_the_kept_state(
        self,
        pieces: list[tuple[EventType, str]],
        at: int,
        granularity: Granularity,
        how: str,
    ) -> None:
        written = begun(300 if how == "trimmed" else 1 << 20)
        for piece in pieces:
            written.write([piece])
        cursor = at % (written.log.last + 1)
        answer = {"replicated": replicated, "restarted": restarted}.get(how, same)(written)
        answer.log.append_piece(TEXT, "Hm. ")
        end(answer)
        if not answer.log.reaches(cursor):
            cursor = answer.log.last - 1
        cutters = answer.log.cutters_at(cursor)
        for kind, text in text_before(answer, cursor).items():
            from_the_start = SentenceCutter()
            from_the_start.feed(text)
            assert state(cutters[kind]) == state(from_the_start)
        first = everything(follower(answer, cursor, granularity))
        assert everything(follower(answer, cursor, granularity)) == first


def same(answer: Answer) -> Answer:
    return answer


def replicated(written: Answer) -> Answer:
    """As another worker has it, which knows no states."""
    answer = begun()
    for event in written.log.events(1):
        answer.log.append_piece(event.type, event.text)
    return answer


def restarted(written: Answer) -> Answer:
    """As another worker has it that came late."""
    answer = begun()
    answer.log.restart(written.log.transcript())
    return answer


def text_before(answer: Answer, cursor: int) -> dict[EventType, str]:
    transcript: Transcript = answer.log.transcript()
    texts = {}
    for kind in DELTAS:
        later = [e.text for e in answer.log.events(cursor) if e.type is kind]
        texts[kind] = transcript.of(kind)[: len(transcript.of(kind)) - len("".join(later))]
    return texts


def state(cutter: SentenceCutter) -> dict[str, Any]:
    """What decides where the next sentence ends."""
    held = {name: getattr(cutter, name) for name in SentenceCutter.__slots__}
    # How much of a line is kept depends on how its text was divided.
    return held | {"line": held["line"][-64:], "head": held["head"][:64], "ink": None}


def listing(reply: bytes) -> Script:
    """Lists models by this body."""
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
    return lambda call: call.raw(head % (len(reply), reply))


class TestModels:
    """Asking which models there are uses the server's key."""

    @pytest.mark.parametrize(
        "script",
        [
            lambda call: call.refuse(401, Connection="close"),
            lambda call: call.refuse(500, Connection="close"),
            listing(b"[]"),
        ],
    )
    def test_strangers_cause_one_request_also_where_that_fails(
        self, tmp_path: Path, upstream: FakeUpstream, monkeypatch: Any, script: Script
    ) -> None:
        calls: list[Call] = []

        def answer(call: Call) -> None:
            calls.append(call)
            script(call)

        monkeypatch.setattr(upstream, "_answer", answer)
        app = host(tmp_path)
        mounted(app, upstream.url, model=None)
        codes = set()
        for _ in range(20):
            notice = app.test_client().get("/chat/api/models").json["notice"]
            codes.add(notice["code"])
        assert len(calls) == len(codes) == 1


class TestStreams:
    @pytest.fixture
    def site(self, tmp_path: Path) -> Iterator[Site]:
        site = Site(
            tmp_path,
            CHATAPP_MAX_STREAMS_PER_OWNER="2",
            CHATAPP_MAX_STREAMS_PER_ADDRESS="3",
            CHATAPP_TRUSTED_PROXIES="1",
        )
        yield site
        site.close()

    def test_one_owner_has_so_many_and_others_have_theirs(self, site: Site) -> None:
        mine, other = site.visitor(), site.visitor()
        opened = [mine.stream("/api/events") for _ in range(2)]
        assert mine.get("/api/events").error["code"] == "too_many_streams"
        refused = mine.call("POST", "/api/chat", {"message": "Hi"}, Accept="text/event-stream")
        assert (refused.status, refused.error["code"]) == (429, "too_many_streams")
        assert site.upstream.calls == []
        opened.append(other.stream("/api/events"))
        assert [stream.status for stream in opened] == [200] * 3
        opened.pop(0).response.close()
        opened.append(poll(lambda: opens(mine)))
        for stream in opened:
            stream.response.close()

    def test_new_cookies_don_t_help(self, site: Site) -> None:
        def push(address: str) -> Stream:
            return Client(site.url).stream("/api/events", X_Forwarded_For=address)

        opened = [push(f"2600::{n}") for n in range(4)]
        assert [stream.status for stream in opened] == [200, 200, 200, 429]
        # Another network, and a proxy that does not say whom it speaks for.
        others = [push("2600:0:0:1::1"), *(push("10.0.0.1") for _ in range(5))]
        assert {stream.status for stream in others} == {200}
        for stream in opened + others:
            stream.response.close()


def opens(client: Client) -> Stream | None:
    """A page's stream, if there may be one more."""
    stream = client.stream("/api/events")
    if stream.status == 200:
        return stream
    stream.response.close()
    return None


class TestBodies:
    @pytest.fixture
    def client(self, tmp_path: Path, upstream: FakeUpstream) -> FlaskClient:
        app = host(tmp_path)
        mounted(app, upstream.url)
        return app.test_client()

    @pytest.mark.parametrize("value", ["1", "[]", "{}", '"a"', '{"a":1}', '"\\\\"'])
    def test_of_many_values_are_refused_before_they_are_parsed(
        self, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        parsed: list[bytes] = []
        monkeypatch.setattr(validation, "json", SimpleNamespace(loads=parsed.append))
        body = '{"message":"a","messages":[' + ",".join([value] * 200_000) + "]}"
        reply = client.post("/chat/api/chat", data=body, content_type="application/json")
        assert refused(reply) == (413, "body_too_large")
        assert not parsed

    def test_a_text_may_have_any_characters(self, client: FlaskClient) -> None:
        body = {"message": ',[{\\"' * 30_000}
        assert client.post("/chat/api/chat", json=body).status_code == 202

    @FEW
    @given(
        st.recursive(
            st.none() | st.integers() | st.text(st.sampled_from('a,[{\\"é')),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
        )
    )
    def test_values_are_never_counted_too_low(self, value: Any) -> None:
        encoded = json.dumps(value).encode()
        counted = validation._values(encoded, -1)
        assert number_of(value) <= counted + 1 <= 2 * number_of(value) + 1


def number_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(number_of(each) for each in inner)


class TestHistories:
    def test_have_so_many_bytes_together_as_long_as_their_answers_run(self) -> None:
        answers = Worker(histories_max_bytes=1024).answers
        first = answers.create("a", 1000)
        with pytest.raises(TooManyAnswers):
            answers.create("b", 100)
        answers.create("b")  # A question in a conversation holds none.
        answers.discard(first, TooManyAnswers("gone"))
        answers.create("b", 100)

    def test_count_as_they_are_sent(self, tmp_path: Path, upstream: FakeUpstream) -> None:
        app = host(tmp_path)
        mounted(app, upstream.url, histories_max_bytes=2000)
        client = app.test_client()
        for size, status in ((3000, 503), (1000, 202)):
            messages = [{"role": "user", "content": "x" * size}]
            reply = client.post("/chat/api/chat", json={"messages": messages})
            assert reply.status_code == status, reply.data


class TestSearches:
    def test_run_one_at_a_time_and_an_owner_waits_with_one(self) -> None:
        searches, entered = Searches(1, 30.0), threading.Event()

        def wait_for_a_turn() -> None:
            with searches.turn("a"):
                entered.set()

        waiting = threading.Thread(target=wait_for_a_turn)
        with searches.turn("a"):
            waiting.start()
            poll(lambda: searches._owners["a"] == 2)
            with pytest.raises(SearchBusy), searches.turn("a"):
                pass
            assert not entered.is_set()
        waiting.join(30)
        assert entered.is_set()
        with searches.turn("a"):
            pass

    def test_wait_for_others_no_longer_than_they_may(self) -> None:
        searches = Searches(1, 0.01)
        with searches.turn("a"), pytest.raises(SearchBusy), searches.turn("b"):
            pass

    def test_end_after_a_time_and_the_connection_goes_on(self, tmp_path: Path) -> None:
        database = Database(f"sqlite:///{tmp_path / 'a.db'}", migrates=True)

        def count(connection: sa.Connection) -> None:
            endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
            with time_limit(connection, 0.01):
                connection.execute(sa.text(f"{endless} SELECT count(*) FROM n")).scalar()

        with pytest.raises(TookTooLong):
            database.run(count, read_only=True)
        assert database.run(lambda c: c.scalar(sa.text("SELECT 7")), read_only=True) == 7
        database.close()
