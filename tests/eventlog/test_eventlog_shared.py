"""What workers share by every event log: what they read, forget, publish, and that they live."""

import threading
import time

from chatapp.eventlog import EventLog, PendingMessage, Segment, State
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
from tests.support.upstream import poll

log_url, open_log, log = event_logs.log_url, event_logs.open_log, event_logs.log


class TestReading:
    """Any number of logs from their cursors, at once."""

    def test_each_from_its_cursor(self, log: EventLog) -> None:
        for answer_id in "abc":
            log.claim(record(answer_id))
            append(log, answer_id, 1, 3)
            append(log, answer_id, 4, 6)
        found, missing = log.read({"a": 0, "b": 4, "c": 6, "x": 3, "y": 0})
        assert found == {"a": [seg("a", 1, 3), seg("a", 4, 6)], "b": [seg("b", 4, 6)]}
        assert missing == {"x", "y"}
        assert log.read({}) == ({}, frozenset())
        assert log.read({"a": 3})[0] == {"a": [seg("a", 4, 6)]}
        assert log.read({"a": 99}) == ({}, frozenset())

    def test_what_does_not_fit_comes_next(self, log: EventLog) -> None:
        expected = {}
        for count, answer_id in ((40, "a"), (3, "b"), (17, "c")):
            log.claim(record(answer_id))
            expected[answer_id] = [seg(answer_id, n, n) for n in range(1, count + 1)]
            log.write(ME, expected[answer_id], [], [])
        one = len(expected["a"][0].wire)
        for room in (1, one * 5, one * 60):
            got: dict[str, list[Segment]] = {answer_id: [] for answer_id in expected}
            cursors = dict.fromkeys(expected, 0)
            while found := log.read(cursors, room)[0]:
                size = sum(len(each.wire) for news in found.values() for each in news)
                assert size <= max(room, one * 2)
                for answer_id, news in found.items():
                    got[answer_id] += news
                    cursors[answer_id] = news[-1].last
            assert got == expected

    def test_hundreds_at_once(self, log: EventLog) -> None:
        names = [f"a{n}" for n in range(300)]
        for name in names:
            log.claim(record(name))
        log.write(ME, [seg(name, 1, 2) for name in names], [], [])
        found, missing = log.read(dict.fromkeys(names, 0))
        assert found == {name: [seg(name, 1, 2)] for name in names}
        assert missing == set()


class TestForgetting:
    def test_discarding_takes_the_record_the_key_and_the_log(self, log: EventLog) -> None:
        log.claim(record("a", key="k"))
        log.claim(record("b"))
        append(log, "a", 1, 2)
        end(log, "b", 1, 2)
        log.discard(["a", "b", "never was"])
        log.discard([])
        assert log.find("a") is log.find("b") is None
        assert log.read({"a": 0, "b": 0}) == ({}, {"a", "b"})
        assert log.orphans([]) == []
        assert log.claim(record("c", key="k")).id == "c"
        log.claim(record("a"))
        assert log.read({"a": 0}) == ({}, frozenset())

    def test_by_age(self, log: EventLog) -> None:
        self.fill(log)
        log.tidy(3600, 1 << 30, 3600, 100)
        assert [bool(log.find(each)) for each in self.ALL] == [True] * 5
        log.tidy(-1, 1 << 30, 3600, 100)
        assert [bool(log.find(each)) for each in self.ALL] == [False, False, False, True, True]
        assert log.read({"free": 0})[0] == {"free": [seg("free", 1, 2)]}
        assert log.claim(record("new", key="done")).id == "new"

    def test_by_size_the_oldest_end_first(self, log: EventLog) -> None:
        self.fill(log)
        size = len(seg("done", 1, 2).wire)
        log.tidy(3600, size, 3600, 100)
        # "late" began first, and ended last.
        assert [bool(log.find(each)) for each in self.ALL] == [False, True, True, True, True]
        log.tidy(3600, size - 1, 3600, 100)
        assert log.find("late") is None
        log.tidy(3600, 0, 3600, 100)
        assert text(log, "runs") == ["1", "2"]

    def test_what_was_replaced_does_not_count(self, log: EventLog) -> None:
        log.claim(record("a"))
        append(log, "a", 1, 20)
        end(log, "a", 1, 21)
        log.tidy(3600, len(seg("a", 1, 21).wire), 3600, 100)
        assert log.find("a")
        log.tidy(3600, len(seg("a", 1, 21).wire) - 1, 3600, 100)
        assert log.find("a") is None

    def test_many(self, log: EventLog) -> None:
        names = [f"a{n}" for n in range(450)]
        for name in names:
            log.claim(record(name))
        log.write(ME, [seg(n, 1, 1) for n in names], [State(n, 1, "done", 1) for n in names], [])
        log.claim(record("runs"))
        log.tidy(-1, 1 << 30, 3600, 100)
        assert log.read(dict.fromkeys([*names, "runs"], 0)) == ({}, frozenset(names))

    def test_old_publications_go_and_numbers_go_on(self, log: EventLog) -> None:
        first = log.write(
            ME, [], [], [PendingMessage(None, "e", b"%d" % n) for n in range(10)]
        ).numbers[0]
        log.tidy(3600, 1 << 30, 3600, 4)
        assert [each.data for each in log.published(0)] == [b"6", b"7", b"8", b"9"]
        log.tidy(3600, 1 << 30, -1, 4)
        assert log.published(0) == []
        assert log.last_published() == first + 9
        assert log.write(ME, [], [], [PendingMessage(None, "e", b"")]).numbers == [first + 10]

    ALL = ("done", "late", "refused", "runs", "free")

    def fill(self, log: EventLog) -> None:
        log.claim(record("late"))
        log.claim(record("done", key="done"))
        end(log, "done", 1, 2)
        log.claim(record("refused", key="refused"))
        log.refuse("refused", 1, b"no")
        append(log, "late", 1, 1)
        then = time.time() + 0.001  # Ends are told apart by the clock.
        poll(lambda: time.time() > then)
        end(log, "late", 2, 2)
        for answer_id, writer in (("runs", ME), ("free", None)):
            log.claim(record(answer_id, writer=writer))
            append(log, answer_id, 1, 2)


class TestWorkers:
    def test_everybody_sees_everybodys_beats(self, open_log: OpenLog) -> None:
        mine, theirs = open_log(), open_log()
        assert mine.beat(ME) == {ME: 1}
        assert theirs.beat(OTHER) == {ME: 1, OTHER: 1}
        assert mine.beat(ME) == {ME: 2, OTHER: 1}
        theirs.leave([OTHER, "nobody"])
        theirs.leave([])
        assert mine.beat(ME) == {ME: 3}

    def test_beats_at_the_same_moment_all_count(self, open_log: OpenLog) -> None:
        logs = [open_log() for _ in range(THREADS)]
        together(THREADS, lambda n: [logs[n].beat(ME) for _ in range(5)])
        assert logs[0].beat(OTHER)[ME] == 5 * THREADS

    def test_the_answers_of_the_dead_are_orphans(self, log: EventLog) -> None:
        log.claim(record("mine", status="streaming", request=b"ask"))
        log.claim(record("theirs", writer=OTHER))
        log.claim(record("free", writer=None))
        log.claim(record("over", writer=OTHER))
        end(log, "over", 1, 1, writer=OTHER)
        append(log, "mine", 1, 3)
        assert log.orphans([ME, OTHER]) == [record("free", writer=None)]
        assert {each.id for each in log.orphans([ME])} == {"theirs", "free"}
        assert {each.id for each in log.orphans(["new"])} == {"mine", "theirs", "free"}
        mine = next(each for each in log.orphans([]) if each.id == "mine")
        assert mine == record("mine", status="streaming", request=b"ask", last_event=3)


class TestPublishing:
    """Numbers without gaps, that nobody sees out of order."""

    def test_in_order_from_a_number_on(self, log: EventLog) -> None:
        assert (log.last_published(), log.published(0)) == (0, [])
        posts = [
            PendingMessage("me", "one", b"\xff"),
            PendingMessage(None, "two", b""),
            PendingMessage("é", "three", b"3"),
        ]
        numbers = log.write(ME, [], [], posts).numbers
        assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]
        found = log.published(0)
        assert [tuple(each[1:4]) for each in found] == [tuple(post) for post in posts]
        assert [each.number for each in found] == numbers
        assert all(abs(each.published_at - time.time()) < 60 for each in found)
        assert log.published(numbers[0], 1) == [found[1]]
        assert log.published(numbers[2]) == []
        assert log.last_published() == numbers[2]

    def test_who_polls_misses_nothing_while_many_publish(self, open_log: OpenLog) -> None:
        logs = [open_log() for _ in range(THREADS)]
        rounds, size = 12, 3
        stop = threading.Event()
        seen: list[int] = []

        def follow(mine: EventLog, last: int) -> None:
            over = False
            while not over:
                over = stop.is_set()
                for each in mine.published(last):
                    last = each.number
                    seen.append(last)

        start = logs[0].write(ME, [], [], [PendingMessage(None, "e", b"")]).numbers[0]
        reader = threading.Thread(target=follow, args=(open_log(), start))
        reader.start()

        def publish(number: int) -> list[int]:
            got: list[int] = []
            for _ in range(rounds):
                posts = [PendingMessage(None, "e", b"%d" % number)] * size
                got += logs[number].write(f"w{number}", [], [], posts).numbers
            return got

        try:
            given = sorted(number for numbers in together(THREADS, publish) for number in numbers)
        finally:
            stop.set()
            reader.join(30)
        assert given == list(range(start + 1, start + 1 + THREADS * rounds * size))
        assert seen == given
