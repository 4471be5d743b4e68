"""What every event log promises, kept in memory, in SQLite, in PostgreSQL and in Redis."""

from dataclasses import replace

import pytest

from chatapp.eventlog import EventLog, Segment, State, Written
from tests.support import event_logs
from tests.support.event_logs import (
    ME,
    OTHER,
    THREADS,
    OpenLog,
    append,
    end,
    record,
    seg,
    text,
    together,
)

log_url, open_log, log = event_logs.log_url, event_logs.open_log, event_logs.log


class TestClaiming:
    """One record for each answer, and for each key of an owner."""

    def test_what_was_claimed_is_found(self, log: EventLog) -> None:
        full = record(
            "a", key="k", conversation_id="c", model="m", request=b"\0\xff", last_event=7, epoch=3
        )
        bare = record("b", writer=None)
        assert log.claim(full) == full
        assert log.claim(bare) == bare
        assert (log.find("a"), log.find("b")) == (full, bare)
        assert log.find("c") is log.find("a\0") is None

    def test_a_key_stands_for_its_owners_first_answer(self, log: EventLog) -> None:
        first = log.claim(record("a", key="k"))
        assert log.claim(record("b", key="k")) == first
        assert log.find("b") is None
        assert log.claim(record("c", key="k", owner="somebody else")).id == "c"
        assert log.claim(record("d", key="l")).id == "d"
        assert log.claim(record("e")).id == "e"
        assert log.claim(record("f")).id == "f"

    def test_owners_and_keys_are_not_run_together(self, log: EventLog) -> None:
        pairs = [("a", "b:c"), ("a:b", "c"), ("1:a", "b"), ("1", "a:b"), ("é", "中")]
        for number, (owner, key) in enumerate(pairs):
            assert log.claim(record(f"r{number}", owner=owner, key=key)).id == f"r{number}"

    def test_claiming_again_changes_nothing(self, log: EventLog) -> None:
        log.claim(record("a", key="k"))
        append(log, "a", 1, 3)
        log.request_stop("a")
        known = log.claim(record("a", key="k"))
        assert known == record("a", key="k", last_event=3, stop=True)
        assert text(log, "a") == ["1", "2", "3"]

    def test_of_many_at_the_same_moment_one_adds(self, open_log: OpenLog) -> None:
        logs = [open_log() for _ in range(THREADS)]
        for round_ in range(5):
            claims = together(
                THREADS, lambda n, r=round_: logs[n].claim(record(f"a{r}-{n}", key=f"k{r}"))
            )
            assert len({claim.id for claim in claims}) == 1
            there = [logs[0].find(f"a{round_}-{n}") for n in range(THREADS)]
            assert [each for each in there if each] == [claims[0]]

    def test_many_without_keys_are_added_in_one_go_and_known_ones_stay(self, log: EventLog) -> None:
        log.claim(record("a1", writer="first"))
        log.add([record("a1", writer="second"), record("a2"), record("a3")])
        assert log.find("a1").writer == "first"
        assert {log.find(each).id for each in ("a2", "a3")} == {"a2", "a3"}

    def test_a_forgotten_answer_is_claimed_again_as_it_was(self, log: EventLog) -> None:
        log.claim(record("a", key="k", epoch=2))
        log.discard(["a"])
        assert append(log, "a", 5, 6, epoch=2).lost == {"a"}
        again = record("a", key="k", epoch=2, last_event=4)
        assert log.claim(again) == again
        assert not append(log, "a", 5, 6, epoch=2).lost
        assert text(log, "a") == ["5", "6"]
        assert log.claim(record("b", key="k")).id == "a"


class TestWriting:
    """A log grows at its end, by its writer only."""

    def test_segments_follow_each_other(self, log: EventLog) -> None:
        log.claim(record("a"))
        log.claim(record("b"))
        written = log.write(ME, [seg("a", 1, 2), seg("b", 1, 1), seg("a", 3, 3)], [], [])
        assert written == Written(frozenset(), frozenset(), [])
        found, missing = log.read({"a": 0, "b": 0, "c": 0})
        assert found == {"a": [seg("a", 1, 2), seg("a", 3, 3)], "b": [seg("b", 1, 1)]}
        assert missing == {"c"}
        known = log.find("a")
        assert known
        assert known.last_event == 3

    def test_a_flush_may_be_written_again(self, log: EventLog) -> None:
        log.claim(record("a"))
        flush = [seg("a", 1, 2), seg("a", 3, 5)], [State("a", 1, "streaming", 5)], []
        assert log.write(ME, *flush) == log.write(ME, *flush)
        assert text(log, "a") == ["1", "2", "3", "4", "5"]

    def test_also_with_the_end(self, log: EventLog) -> None:
        log.claim(record("a"))
        for _ in range(2):
            assert not end(log, "a", 1, 4).lost
        assert text(log, "a") == ["1", "2", "3", "4"]

    def test_also_grown(self, log: EventLog) -> None:
        log.claim(record("a"))
        append(log, "a", 1, 2)
        append(log, "a", 3, 5)
        append(log, "a", 6, 7)
        assert not append(log, "a", 3, 9).lost
        assert not append(log, "a", 10, 12).lost
        assert not append(log, "a", 10, 13).lost
        assert not end(log, "a", 10, 14).lost
        found, _ = log.read({"a": 0})
        assert [each[1:4] for each in found["a"]] == [(1, 1, 2), (1, 3, 9), (1, 10, 14)]
        for cursor in range(14):
            first = log.read({"a": cursor})[0]["a"][0]
            assert first.first <= cursor + 1 <= first.last

    @pytest.mark.parametrize("first", [2, 5, 7])
    def test_a_gap_or_an_overlap_is_refused(self, log: EventLog, first: int) -> None:
        log.claim(record("a"))
        append(log, "a", 1, 2)
        append(log, "a", 3, 5)
        assert append(log, "a", first, first + 4).lost == {"a"}
        assert text(log, "a") == ["1", "2", "3", "4", "5"]

    def test_what_follows_something_refused_is_refused(self, log: EventLog) -> None:
        log.claim(record("a"))
        flush = [seg("a", 2, 2), seg("a", 1, 1)], [State("a", 1, "streaming", 1)], []
        assert log.write(ME, *flush).lost == {"a"}
        assert log.find("a") == record("a")

    def test_the_refusal_of_one_leaves_the_others(self, log: EventLog) -> None:
        log.claim(record("a"))
        states = [State("a", 1, "streaming", 1), State("gone", 1, "done", 1)]
        assert log.write(ME, [seg("x", 1, 1), seg("a", 1, 1)], states, []).lost == {"x", "gone"}
        assert log.find("a") == record("a", status="streaming", last_event=1)

    @pytest.mark.parametrize("status", ["done", "failed", "stopped"])
    def test_after_the_end_nothing_is_written(self, log: EventLog, status: str) -> None:
        log.claim(record("a", request=b"ask"))
        assert not end(log, "a", 1, 2, status).lost
        assert append(log, "a", 3, 3).lost == {"a"}
        assert append(log, "a", 1, 3).lost == {"a"}
        assert log.write(ME, [], [State("a", 1, "streaming", 2)], []).lost == {"a"}
        assert text(log, "a") == ["1", "2"]
        known = log.find("a")
        assert known
        assert (known.status, known.last_event, known.request) == (status, 2, None)

    def test_an_end_that_the_log_has_not_come_to_is_refused(self, log: EventLog) -> None:
        log.claim(record("a"))
        append(log, "a", 1, 2)
        assert log.write(ME, [], [State("a", 1, "done", 3)], []).lost == {"a"}
        known = log.find("a")
        assert known
        assert known.status == "pending"

    def test_bytes_come_back_as_they_were(self, log: EventLog) -> None:
        log.claim(record("a"))
        wire = bytes(range(256)) * 3000
        log.write(ME, [Segment("a", 1, 1, 1, wire), Segment("a", 1, 2, 2, b"")], [], [])
        assert [each.wire for each in log.read({"a": 0})[0]["a"]] == [wire, b""]


class TestTheFence:
    """Who took an answer over is the only one who writes it."""

    def test_the_former_writer_is_told(self, log: EventLog) -> None:
        log.claim(record("a"))
        append(log, "a", 1, 2)
        assert log.take("a", 1, OTHER)
        assert append(log, "a", 3, 4).lost == {"a"}
        assert end(log, "a", 3, 4).lost == {"a"}
        assert append(log, "a", 3, 3, epoch=2, writer=OTHER).lost == set()
        # What was there before does not help it either.
        assert append(log, "a", 1, 2).lost == {"a"}
        assert append(log, "a", 3, 3).lost == {"a"}
        assert log.find("a") == record("a", writer=OTHER, epoch=2, last_event=3, crashes=1)

    def test_the_new_writer_replaces_nothing_of_the_former(self, log: EventLog) -> None:
        log.claim(record("a"))
        append(log, "a", 1, 2)
        log.take("a", 1, OTHER)
        assert append(log, "a", 1, 3, epoch=2, writer=OTHER).lost == {"a"}
        assert text(log, "a") == ["1", "2"]

    def test_of_many_one_takes(self, open_log: OpenLog) -> None:
        logs = [open_log() for _ in range(THREADS)]
        for round_ in range(5):
            answer_id = f"a{round_}"
            logs[0].claim(record(answer_id, writer=None))
            won = together(THREADS, lambda n, a=answer_id: logs[n].take(a, 1, f"w{n}"))
            assert sorted(won) == [False] * (THREADS - 1) + [True]
            known = logs[0].find(answer_id)
            assert known
            assert (known.epoch, known.writer) == (2, f"w{won.index(True)}")

    def test_who_took_learns_it_again(self, log: EventLog) -> None:
        log.claim(record("a"))
        assert log.take("a", 1, OTHER)
        assert log.take("a", 1, OTHER)
        assert not log.take("a", 1, ME)
        known = log.find("a")
        assert known
        assert known.epoch == 2

    def test_only_what_runs_is_taken_or_released(self, log: EventLog) -> None:
        log.claim(record("a"))
        end(log, "a", 1, 1)
        log.release("a", 1)
        assert not log.take("a", 1, OTHER)
        assert not log.take("gone", 1, OTHER)
        known = log.find("a")
        assert known
        assert (known.writer, known.epoch) == (ME, 1)

    def test_released_it_is_an_orphan(self, log: EventLog) -> None:
        log.claim(record("a"))
        log.release("a", 2)
        assert log.orphans([ME]) == []
        log.release("a", 1)
        assert log.orphans([ME]) == [record("a", writer=None)]

    def test_a_log_that_two_write_to_has_one_order(self, open_log: OpenLog) -> None:
        """Writers take the answer from each other as fast as they can, and write what they can."""
        logs = [open_log() for _ in range(4)]
        logs[0].claim(record("a", writer=None))

        def fight(number: int) -> list[str]:
            mine, wrote = logs[number], []
            for turn in range(25):
                known = mine.find("a")
                assert known
                if not mine.take("a", known.epoch, f"w{number}"):
                    continue
                taken = mine.find("a")
                assert taken
                for first in range(taken.last_event + 1, taken.last_event + 4):
                    wire = f"{known.epoch + 1}:{first}:{number}:{turn} ".encode()
                    segment = Segment("a", known.epoch + 1, first, first, wire)
                    if mine.write(f"w{number}", [segment], [], []).lost:
                        break
                    wrote.append(wire.decode())
            return wrote

        wrote = [line for lines in together(4, fight) for line in lines]
        segments = logs[0].read({"a": 0})[0]["a"]
        assert [each.first for each in segments] == list(range(1, len(segments) + 1))
        assert sorted(each.wire.decode() for each in segments) == sorted(wrote)
        epochs = [each.epoch for each in segments]
        assert epochs == sorted(epochs)


class TestStopping:
    """A mark that the writer finds."""

    def test_the_next_write_tells_even_if_it_is_empty(self, log: EventLog) -> None:
        for answer_id in ("a", "b"):
            log.claim(record(answer_id))
        log.claim(record("theirs", writer=OTHER))
        assert log.write(ME, (), (), ()) == Written(frozenset(), frozenset(), [])
        for answer_id in ("a", "theirs", "gone"):
            log.request_stop(answer_id)
        assert log.write(ME, (), (), ()).stops == {"a"}
        assert append(log, "b", 1, 1).stops == {"a"}
        assert log.write(OTHER, (), (), ()).stops == {"theirs"}

    def test_it_stays_with_the_answer(self, log: EventLog) -> None:
        log.claim(record("a"))
        log.request_stop("a")
        log.release("a", 1)
        assert log.write(ME, (), (), ()).stops == set()
        assert log.take("a", 1, OTHER)
        assert log.write(OTHER, (), (), ()).stops == {"a"}

    def test_it_ends_with_the_answer(self, log: EventLog) -> None:
        log.claim(record("a"))
        log.request_stop("a")
        assert end(log, "a", 1, 1, "stopped").stops == set()
        log.request_stop("a")
        assert log.write(ME, (), (), ()).stops == set()

    def test_a_mark_that_is_claimed_counts(self, log: EventLog) -> None:
        log.claim(record("a", stop=True))
        assert log.write(ME, (), (), ()).stops == {"a"}


class TestReadersElsewhere:
    """A writer learns with its flush that somebody reads at another worker."""

    def test_the_next_write_tells_even_if_it_is_empty(self, log: EventLog) -> None:
        log.add([record("a"), record("b"), record("theirs", writer=OTHER)])
        assert log.write(ME, [], [], []).reads == {}
        log.note_readers(["a", "theirs", "gone"])
        assert log.write(ME, [], [], []).reads == {"a": 1}
        log.note_readers(["a", "b"])
        assert append(log, "a", 1, 2).reads == {"a": 2, "b": 1}
        assert log.find("a") == record("a", last_event=2)

    def test_the_new_writer_is_told_and_of_what_is_over_nobody(self, log: EventLog) -> None:
        log.add([record("a"), record("b")])
        log.note_readers(["a", "b"])
        log.take("a", 1, OTHER)
        assert log.write(OTHER, [], [], []).reads == {"a": 1}
        end(log, "b", 1, 1)
        log.note_readers(["b"])
        assert log.write(ME, [], [], []).reads == {}


class TestCrashes:
    def test_only_a_writer_that_did_not_let_go_has_crashed(self, log: EventLog) -> None:
        log.claim(record("a"))
        steps = [("released", 0), ("released", 0), ("died", 1), ("released", 1), ("died", 2)]
        for epoch, (how, crashes) in enumerate(steps, 1):
            if how == "released":
                log.release("a", epoch)
            for _ in range(2):  # Who takes it again learns that it has it, and counts nothing.
                assert log.take("a", epoch, OTHER)
            found = log.find("a")
            assert found is not None
            assert (found.epoch, found.crashes) == (epoch + 1, crashes)


class TestAnEndThatFreesTheKey:
    @pytest.mark.parametrize("frees", [True, False])
    def test_the_key_stands_for_another_answer_where_it_says_so(
        self, log: EventLog, frees: bool
    ) -> None:
        log.claim(record("a", key="k"))
        for _ in range(2):  # The flush may be written again.
            over = State("a", 1, "failed", 1, frees_key=frees)
            assert log.write(ME, [seg("a", 1, 1)], [over], []).lost == set()
        expected = record("a", key=None if frees else "k", status="failed", last_event=1)
        assert log.find("a") == expected
        assert log.claim(record("b", key="k")).id == ("b" if frees else "a")
        log.discard(["a"])
        assert log.claim(record("c", key="k")).id == ("b" if frees else "c")


class TestRefusing:
    def test_the_key_is_free_and_the_refusal_stays(self, log: EventLog) -> None:
        log.claim(record("a", key="k", request=b"ask"))
        log.refuse("a", 2, b"not yours")
        assert log.find("a") == record("a", key="k", request=b"ask")
        log.refuse("a", 1, b"no \xff")
        log.refuse("a", 1, b"again")
        assert log.find("a") == record("a", status="refused", refusal=b"no \xff")
        assert log.claim(record("b", key="k")).id == "b"
        log.discard(["a"])
        assert log.claim(record("c", key="k")).id == "b"

    def test_it_runs_no_more(self, log: EventLog) -> None:
        log.claim(record("a"))
        log.refuse("a", 1, b"no")
        assert log.orphans([]) == []
        assert append(log, "a", 1, 1).lost == {"a"}
        assert not log.take("a", 1, OTHER)


def test_a_record_is_the_same_from_every_worker(open_log: OpenLog) -> None:
    mine, theirs = open_log(), open_log()
    known = mine.claim(record("a", key="k"))
    assert theirs.find("a") == known
    assert theirs.claim(record("b", key="k")) == known
    append(mine, "a", 1, 4)
    assert theirs.find("a") == replace(known, last_event=4)
    assert text(theirs, "a") == ["1", "2", "3", "4"]
