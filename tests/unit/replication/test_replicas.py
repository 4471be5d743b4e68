"""Whoever reads in another worker gets what the writer's own readers get."""

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.answers.answer import Answer
from chatapp.answers.events import Event, EventType
from chatapp.answers.outcome import Outcome, Status
from chatapp.answers.text.granularity import Granularity
from chatapp.delivery.follower import Follower
from chatapp.errors import CODES, InvalidRequest, StorageUnavailable, UpstreamBusy
from chatapp.eventlog import MemoryEventLog, Segment
from chatapp.replication import replicas as module
from chatapp.replication.replicas import Replicas
from chatapp.replication.segments import new_segments, record_of
from chatapp.runtime.wakers import ThreadWaker
from chatapp.settings import Settings
from chatapp.upstream.sse_decoder import Decoder, Message
from tests.support.hypothesis_settings import FEW, SPEECH
from tests.support.replication import (
    REASONING,
    TEXT,
    Desk,
    FlakyLog,
    begun,
    copy_of,
    end,
    events,
    nothing,
    write,
)
from tests.support.upstream import poll


class Elsewhere:
    """Another worker: its replicas are read by the test alone."""

    def __init__(self, log: Any, **options: Any) -> None:
        self.log = FlakyLog(log)
        self.replicas = Replicas(self.log, Settings(**options))  # type: ignore[arg-type]
        self.replicas._background.wake = nothing  # type: ignore[method-assign]
        self.poll = self.replicas._poll


def follower(
    answer: Answer, granularity: Granularity = Granularity.TOKEN, cursor: int = 0
) -> Follower:
    return Follower(answer, cursor, granularity, lambda: answer.moved)


def messages(wire: bytes) -> list[Message]:
    return Decoder().feed(wire)


def event_of(message: Message) -> Event:
    return Event(int(message.id), EventType(message.event), message.data)


def watched(log: MemoryEventLog, max_bytes: int = 1 << 20) -> tuple[Desk, Answer]:
    desk, answer = Desk(log), begun(max_bytes)
    desk.replicator.watch(answer, claimed=False)
    desk.flush()
    return desk, answer


DELTAS = st.lists(
    st.tuples(st.sampled_from([TEXT, TEXT, REASONING]), SPEECH.filter(bool), st.booleans()),
    max_size=20,
)


class TestAMirror:
    @FEW
    @given(DELTAS, st.sampled_from(list(Granularity)), st.integers(0, 20))
    def test_gives_its_readers_the_same_bytes_as_the_writer_gives_its_own(
        self,
        pieces: list[tuple[EventType, str, bool]],
        granularity: Granularity,
        enters_at: int,
    ) -> None:
        """At every granularity, wherever it is flushed, whenever the reader comes."""
        log = MemoryEventLog()
        desk, answer = watched(log)
        there = Elsewhere(log)
        mine = follower(answer, granularity)
        got, expected, its = b"", b"", None
        for number, (kind, text, flush) in enumerate(pieces):
            write(answer, text, kind=kind)
            if flush:
                desk.flush()
            if number == enters_at:
                its = follower(there.replicas.find(answer.id), granularity)
            expected += mine.read()
            there.poll()
            got += its.read() if its else b""
        end(answer)
        desk.flush()
        expected += mine.read()
        its = its or follower(there.replicas.find(answer.id), granularity)
        there.poll()
        got += its.read()
        assert got == expected
        assert its.over

    @FEW
    @given(DELTAS, st.integers(200, 1000))
    def test_ends_with_the_whole_text_where_the_writer_lost_events_before_they_were_flushed(
        self, pieces: list[tuple[EventType, str, bool]], most: int
    ) -> None:
        log = MemoryEventLog()
        desk, answer = watched(log, max_bytes=most)
        there = Elsewhere(log)
        replica = there.replicas.find(answer.id)
        its = follower(replica)
        wire = its.read()
        for kind, text, flush in pieces:
            write(answer, text, kind=kind)
            if flush:
                desk.flush()
                there.poll()
                wire += its.read()
        end(answer)
        desk.flush()
        there.poll()
        wire += its.read()
        text = ""
        for message in messages(wire):
            if message.event == "snapshot":
                text = event_of(message).fields()["text"]
            elif message.event == "message":
                text += event_of(message).text
        assert text == replica.log.text() == answer.log.text()
        assert replica.log.text(REASONING) == answer.log.text(REASONING)
        assert replica.log.last == answer.log.last

    def test_shows_a_snapshot_where_the_event_log_has_one(self) -> None:
        log = MemoryEventLog()
        desk, answer = watched(log, max_bytes=300)
        there = Elsewhere(log)
        its = follower(there.replicas.find(answer.id))
        its.read()
        write(answer, *(f"{number} " for number in range(50)))
        desk.flush()
        there.poll()
        (snapshot,) = messages(its.read())
        assert (snapshot.event, int(snapshot.id)) == ("snapshot", answer.log.last)
        assert event_of(snapshot).fields()["text"] == answer.log.text()

    @pytest.mark.parametrize("outcome", ["before", "after"])
    def test_goes_on_where_a_repeated_flush_has_grown_into_a_snapshot(self, outcome: str) -> None:
        log = MemoryEventLog()
        flaky = FlakyLog(log)
        desk, answer = Desk(flaky), begun(max_bytes=300)
        desk.replicator.watch(answer, claimed=False)
        desk.flush()
        there = Elsewhere(log)
        replica = there.replicas.find(answer.id)
        write(answer, "one ")
        flaky.faults = [outcome]
        desk.flush()
        there.poll()
        write(answer, *(f"{number} " for number in range(50)))
        desk.flush()
        there.poll()
        assert (replica.log.text(), replica.log.last) == (answer.log.text(), answer.log.last)

    @pytest.mark.parametrize("kind", ["piece", "tool", "snapshot"])
    def test_streams_from_the_first_thing_that_is_said(self, kind: str) -> None:
        log = MemoryEventLog()
        answer = begun(300)
        log.claim(record_of(answer, "here"))
        there = Elsewhere(log)
        mirror = there.replicas.find(answer.id)
        assert mirror.shown_status is Status.PENDING
        if kind == "tool":
            answer.log.append(EventType.TOOL, b'{"name":"look"}')
        else:
            write(answer, *(f"{n} " for n in range(1 if kind == "piece" else 50)))
        log.write("here", new_segments(answer, 0), [], [])
        there.poll()
        assert mirror.shown_status is Status.STREAMING

    def test_knows_of_the_answer_what_its_events_tell(self) -> None:
        log = MemoryEventLog()
        desk, answer = watched(log)
        there = Elsewhere(log)
        replica = there.replicas.find(answer.id)
        assert (replica.owner, replica.model, replica.conversation_id) == ("me", "model", "talk")
        assert replica.accepted_or_refused.is_set()
        assert replica.running
        assert abs((replica.created_at - answer.created_at).total_seconds()) < 0.001
        outcome = Outcome("stopped", {"total_tokens": 3}, "provider")
        end(answer, Status.STOPPED, outcome)
        desk.flush()
        there.poll()
        assert (replica.status, replica.outcome.finish_reason, replica.running) == (
            Status.STOPPED,
            "stopped",
            False,
        )
        assert replica.outcome == outcome
        assert replica.start_event().data == answer.start_event().data

    @pytest.mark.parametrize("code", sorted(CODES))
    def test_of_a_failed_answer_has_its_error(self, code: str) -> None:
        log = MemoryEventLog()
        desk, answer = watched(log)
        error = CODES[code]("What happened.")
        end(answer, Status.FAILED, Outcome(error=error))
        desk.finish()
        replica = Elsewhere(log).replicas.find(answer.id)
        assert replica.status is Status.FAILED
        assert type(replica.outcome.error) is CODES[code]
        assert replica.outcome.error.fields() == error.fields()
        assert follower(replica).read() == follower(answer).read()

    def test_wakes_its_readers(self) -> None:
        log = MemoryEventLog()
        desk, answer = watched(log)
        there, waker = Elsewhere(log), ThreadWaker()
        follower(there.replicas.find(answer.id)).enter(waker)
        write(answer, "news")
        desk.flush()
        there.poll()
        assert waker.wait(0)

    def test_of_an_answer_with_many_segments_is_loaded_whole(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log = MemoryEventLog()
        desk, answer = watched(log)
        for number in range(30):
            write(answer, f"{number} ")
            desk.flush()
        there = Elsewhere(log)
        read = log.read
        monkeypatch.setattr(log, "read", lambda cursors: read(cursors, 200))
        assert events(there.replicas.find(answer.id)) == events(answer)
        assert there.log.calls.count("read") > 3

    def test_of_a_huge_answer_is_trimmed_like_any_log(self) -> None:
        log = MemoryEventLog()
        desk, answer = watched(log)
        write(answer, *(f"{number} " for number in range(500)))
        end(answer)
        desk.finish()
        replica = Elsewhere(log, log_max_bytes=2000).replicas.find(answer.id)
        assert replica.log.text() == answer.log.text()
        assert replica.log.size < 2000 + 4 * 500
        assert messages(follower(replica).read())[1].event == "snapshot"


class TestFinding:
    def test_an_answer_that_nobody_knows_finds_none(self) -> None:
        assert Elsewhere(MemoryEventLog()).replicas.find("unknown") is None

    def test_an_answer_that_never_began_finds_none(self) -> None:
        log, answer = MemoryEventLog(), begun()
        log.claim(record_of(answer, "here"))
        log.refuse(answer.id, 1, b"{}")
        assert Elsewhere(log).replicas.find(answer.id) is None

    def test_twice_is_the_same_replica_also_by_many_threads(self) -> None:
        log = MemoryEventLog()
        _, answer = watched(log)
        there, start = Elsewhere(log), threading.Barrier(8)
        found: list[Answer | None] = []

        def find() -> None:
            start.wait()
            found.append(there.replicas.find(answer.id))

        threads = [threading.Thread(target=find) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(found) == 8
        assert len({id(replica) for replica in found}) == 1
        assert found[0] is there.replicas.find(answer.id)

    def test_says_when_the_event_log_is_away(self) -> None:
        log = MemoryEventLog()
        _, answer = watched(log)
        there = Elsewhere(log)
        there.log.away = True
        with pytest.raises(StorageUnavailable):
            there.replicas.find(answer.id)
        there.log.away = False
        assert there.replicas.find(answer.id)


class TestPolling:
    def test_many_readers_of_many_replicas_cost_one_read(self) -> None:
        log = MemoryEventLog()
        desk = Desk(log)
        answers = [begun() for _ in range(5)]
        for answer in answers:
            desk.replicator.watch(answer, claimed=False)
        desk.flush()
        there = Elsewhere(log)
        for answer in answers:
            for _ in range(20):
                follower(there.replicas.find(answer.id)).enter(ThreadWaker())
        for answer in answers:
            write(answer, "news")
        desk.flush()
        there.log.calls.clear()
        there.poll()
        assert there.log.calls == ["read"]
        assert there.replicas.readers == 100
        texts = [there.replicas.find(answer.id).log.text() for answer in answers]
        assert texts == ["news"] * 5

    def test_what_is_over_is_neither_kept_nor_read_again(self) -> None:
        log = MemoryEventLog()
        desk, answer = watched(log)
        end(answer)
        desk.finish()
        there = Elsewhere(log, poll_interval=0.05)
        assert not there.replicas.find(answer.id).running
        there.log.calls.clear()
        assert there.poll() is None
        assert (there.log.calls, len(there.replicas)) == ([], 0)

    def test_without_replicas_there_is_no_polling(self, monkeypatch: pytest.MonkeyPatch) -> None:
        log = MemoryEventLog()
        _desk, answer = watched(log)
        there = Elsewhere(log, poll_interval=0.05)
        there.replicas.find(answer.id)
        assert there.poll() == 0.05
        monkeypatch.setattr(module, "UNREAD_KEPT", -1.0)
        assert there.poll() is None
        assert len(there.replicas) == 0

    def test_a_replica_without_readers_is_dropped_after_a_while_and_found_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log = MemoryEventLog()
        desk, answer = watched(log)
        there, waker = Elsewhere(log), ThreadWaker()
        first = there.replicas.find(answer.id)
        page = follower(first)
        page.enter(waker)
        monkeypatch.setattr(module, "UNREAD_KEPT", -1.0)
        there.poll()
        assert len(there.replicas) == 1
        page.exit(waker)
        there.poll()
        assert (len(there.replicas), first.moved) == (0, False)
        write(answer, "meanwhile")
        desk.flush()
        again = there.replicas.find(answer.id)
        assert again is not first
        assert again.log.text() == "meanwhile"

    def test_a_reader_on_its_way_keeps_its_replica(self) -> None:
        """It has found the replica, and has not entered it yet."""
        log = MemoryEventLog()
        _, answer = watched(log)
        there = Elsewhere(log)
        replica = there.replicas.find(answer.id)
        replica.unread_since -= 3600
        assert there.replicas.find(answer.id) is replica
        there.poll()
        assert len(there.replicas) == 1

    def test_an_answer_that_is_gone_from_the_event_log_sends_its_readers_away(self) -> None:
        log = MemoryEventLog()
        _, answer = watched(log)
        there, waker = Elsewhere(log), ThreadWaker()
        page = follower(there.replicas.find(answer.id))
        page.enter(waker)
        log.discard([answer.id])
        there.poll()
        assert page.draining()
        assert waker.wait(0)
        assert there.replicas.find(answer.id) is None

    def test_an_event_log_that_is_away_leaves_the_replicas_as_they_are(self) -> None:
        log = MemoryEventLog()
        desk, answer = watched(log)
        there = Elsewhere(log)
        replica = there.replicas.find(answer.id)
        there.log.away = True
        with pytest.raises(StorageUnavailable):
            there.poll()
        write(answer, "news")
        desk.flush()
        there.log.away = False
        there.poll()
        assert (replica.log.text(), replica.moved) == ("news", False)

    def test_leaving_and_dropping_tell_the_readers_to_come_back(self) -> None:
        log = MemoryEventLog()
        (_, one), (_, two) = watched(log), watched(log)
        there, wakers = Elsewhere(log), [ThreadWaker(), ThreadWaker()]
        pages = [follower(there.replicas.find(answer.id)) for answer in (one, two)]
        for page, waker in zip(pages, wakers, strict=True):
            page.enter(waker)
        there.replicas.drop(one.id)
        assert [page.draining() for page in pages] == [True, False]
        there.replicas.drain()
        assert all(page.draining() for page in pages)
        assert all(waker.wait(0) for waker in wakers)
        assert len(there.replicas) == 0

    def test_it_reads_along_by_itself(self) -> None:
        log = MemoryEventLog()
        desk, answer = watched(log)
        replicas = Replicas(log, Settings(poll_interval=0.01))
        replica = replicas.find(answer.id)
        write(answer, "text")
        end(answer)
        desk.finish()
        poll(lambda: not replica.running)
        replicas._background.end(30)
        assert events(replica) == events(answer)


class TestTakingOver:
    def test_begins_with_a_replica_of_all_that_was_written(self) -> None:
        log = MemoryEventLog()
        desk, answer = watched(log)
        write(answer, "Half a sent")
        desk.flush()
        log.take(answer.id, 1, "there")
        record = log.find(answer.id)
        loaded = Elsewhere(log).replicas.load(record)
        assert (loaded.epoch, loaded.accepted, loaded.log.last) == (2, True, answer.log.last)
        loaded.resume()
        loaded.move(Status.STREAMING)
        taken = Desk(log, "there")
        taken.replicator.watch(loaded, claimed=True, cursor=loaded.log.last)
        write(loaded, "ence.")
        end(loaded)
        taken.finish()
        assert copy_of(log, answer).log.text() == "Half a sentence."

    def test_finds_none_where_the_answer_is_gone_meanwhile(self) -> None:
        log = MemoryEventLog()
        _, answer = watched(log)
        record = log.find(answer.id)
        log.discard([answer.id])
        assert Elsewhere(log).replicas.load(record) is None


def test_a_segment_that_was_seen_already_adds_nothing() -> None:
    answer = begun()
    write(answer, "one ", "two")
    copy = begun()
    wire = answer.log.read(1)[0]
    for _ in range(2):
        module.absorb(copy, [Segment(answer.id, 1, 2, answer.log.last, wire)])
    assert events(copy)[1:] == events(answer)[1:]


def test_the_error_of_a_refusal_comes_back_with_what_the_client_needs() -> None:
    error = UpstreamBusy("Busy.", retry_after=7)
    back = module.restored(error.fields() | {"retry_after": 7})
    assert (type(back), back.message, back.retry_after) == (UpstreamBusy, "Busy.", 7)
    assert isinstance(module.restored({"code": "invalid_request", "message": "x"}), InvalidRequest)
    unknown = module.restored({"code": "of_a_later_version", "message": "x"})
    assert unknown.code == "internal"
