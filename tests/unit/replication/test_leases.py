"""Who is silent is found out by counting, and of several heirs one gets each answer."""

import os
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.errors import StorageUnavailable
from chatapp.eventlog import MemoryEventLog, Record, Segment, State
from chatapp.replication.leases import BEAT, GRACE, Leases, WorkerId
from chatapp.replication.segments import record_of
from tests.support.hypothesis_settings import FEW
from tests.support.replication import FlakyLog, begun

PATIENCE = 4
"""Counts of a worker's own for which another may be silent."""


class Worker:
    """A worker that counts when the test says so."""

    def __init__(self, log: Any, name: str, patience: int = PATIENCE) -> None:
        self.name = name
        self.log = FlakyLog(log)
        self.adopted: list[Record] = []
        self.faults: list[Exception] = []
        self.buried: list[str] = []
        self.leases = Leases(
            self.log,  # type: ignore[arg-type]
            lambda: name,
            patience * BEAT,
            self._adopt,
            buried=self.buried.extend,
        )

    def _adopt(self, record: Record) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.adopted.append(record)

    def beat(self, times: int = 1) -> None:
        for _ in range(times):
            try:
                assert self.leases.beat() == BEAT
            except StorageUnavailable:
                continue


def answer_of(log: MemoryEventLog, writer: str) -> str:
    """A running answer of this worker's."""
    answer = begun()
    log.claim(record_of(answer, writer))
    return answer.id


def ids(worker: Worker) -> list[str]:
    return [record.id for record in worker.adopted]


def writer_of(log: MemoryEventLog, answer_id: str) -> str | None:
    record = log.find(answer_id)
    assert record
    return record.writer


class TestASilentWorker:
    @pytest.mark.parametrize("heirs", [1, 3])
    def test_loses_its_answers_each_to_exactly_one_of_the_others(self, heirs: int) -> None:
        log = MemoryEventLog()
        dead, others = Worker(log, "dead"), [Worker(log, f"heir{n}") for n in range(heirs)]
        answers = [answer_of(log, "dead") for _ in range(5)]
        dead.beat()
        for _ in range(PATIENCE + 2):
            for heir in others:
                heir.beat()
        taken = [answer_id for heir in others for answer_id in ids(heir)]
        assert sorted(taken) == sorted(answers)
        for heir in others:
            for record in heir.adopted:
                assert writer_of(log, record.id) == heir.name
                assert log.find(record.id).epoch == record.epoch + 1

    def test_is_given_as_many_counts_as_its_lease_has_and_not_fewer(self) -> None:
        log = MemoryEventLog()
        dead, heir = Worker(log, "dead"), Worker(log, "heir")
        answer_of(log, "dead")
        dead.beat()
        heir.beat(PATIENCE)  # The first one learns the number.
        assert heir.adopted == []
        heir.beat()
        assert len(heir.adopted) == 1

    @pytest.mark.parametrize("counted", [True, False])
    def test_is_buried_once_its_answers_are_in_other_hands(self, counted: bool) -> None:
        """Also where it is only suspected of being one, and has never counted."""
        log = MemoryEventLog()
        dead, heir = Worker(log, "dead"), Worker(log, "heir")
        answer = answer_of(log, "dead")
        if counted:
            dead.beat()
        heir.leases.suspect({"dead", "heir"})
        heir.beat(PATIENCE - 1)
        assert heir.buried == []
        heir.beat(3)
        assert (ids(heir), heir.buried) == ([answer], ["dead"])

    def test_one_that_is_suspected_and_counts_is_not_buried(self) -> None:
        log = MemoryEventLog()
        new, heir = Worker(log, "new"), Worker(log, "heir")
        heir.leases.suspect({"new"})
        heir.beat(PATIENCE - 1)
        for _ in range(3 * PATIENCE):
            new.beat()
            heir.beat()
        assert heir.buried == []

    def test_that_heirs_race_for_in_threads_is_taken_by_one(self) -> None:
        log = MemoryEventLog()
        answers = [answer_of(log, "dead") for _ in range(20)]
        others = [Worker(log, f"heir{number}") for number in range(4)]
        start = threading.Barrier(4)

        def live(worker: Worker) -> None:
            start.wait()
            worker.beat(PATIENCE * 3)

        threads = [threading.Thread(target=live, args=(worker,)) for worker in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        taken = [(each.id, each.epoch) for heir in others for each in heir.adopted]
        assert len(taken) == len(set(taken))
        assert {answer_id for answer_id, _ in taken} == set(answers)
        # A thread that got no turn for long was taken for dead itself; the last heir counts.
        for answer_id in answers:
            last = max(epoch for each, epoch in taken if each == answer_id)
            heir = next(
                heir
                for heir in others
                if (answer_id, last) in [(each.id, each.epoch) for each in heir.adopted]
            )
            assert writer_of(log, answer_id) == heir.name

    def test_is_forgotten_when_its_answers_are_in_other_hands(self) -> None:
        log = MemoryEventLog()
        dead, heir = Worker(log, "dead"), Worker(log, "heir")
        answer_of(log, "dead")
        dead.beat()
        heir.beat(PATIENCE + 1)
        assert len(heir.adopted) == 1
        assert "dead" in log.beat("x")
        heir.beat()
        assert "dead" not in log.beat("x")

    def test_is_not_forgotten_before(self) -> None:
        """Else its answers would be those of somebody who just does not count yet."""
        log = MemoryEventLog()
        dead, heir = Worker(log, "dead"), Worker(log, "heir")
        answer_of(log, "dead")
        dead.beat()
        heir.beat(PATIENCE)
        heir.log.faults = ["", "", "before"]  # Its count and its look work, taking does not.
        heir.beat()
        assert (heir.adopted, "dead" in log.beat("x")) == ([], True)

    def test_that_comes_back_to_life_is_one_of_the_living_again(self) -> None:
        log = MemoryEventLog()
        sleeper, heir = Worker(log, "sleeper"), Worker(log, "heir")
        lost = answer_of(log, "sleeper")
        sleeper.beat()
        heir.beat(PATIENCE + 3)
        assert ids(heir) == [lost]
        later = answer_of(log, "sleeper")
        for _ in range(PATIENCE * 3):
            sleeper.beat()
            heir.beat()
        assert ids(heir) == [lost]
        assert writer_of(log, later) == "sleeper"
        assert sleeper.adopted == []


class TestALivingWorker:
    @FEW
    @given(st.lists(st.integers(0, 2), min_size=1, max_size=60))
    def test_is_taken_for_dead_by_nobody_as_long_as_it_counts_within_its_lease(
        self, order: list[int]
    ) -> None:
        """Three workers count in any order; none is silent for longer than a lease."""
        log = MemoryEventLog()
        workers = [Worker(log, f"worker{number}") for number in range(3)]
        answers = [answer_of(log, worker.name) for worker in workers]
        beats = [0, 0, 0]
        for turn in order:
            workers[turn].beat()
            beats[turn] += 1
            if beats[turn] % (PATIENCE - 1) == 0:
                for other in {0, 1, 2} - {turn}:
                    workers[other].beat()
        assert all(worker.adopted == [] for worker in workers)
        assert [writer_of(log, answer_id) for answer_id in answers] == [
            worker.name for worker in workers
        ]

    @pytest.mark.parametrize("patience", [2, PATIENCE])
    def test_that_counts_as_often_as_the_others_keeps_its_answers(self, patience: int) -> None:
        log = MemoryEventLog()
        workers = [Worker(log, f"worker{number}", patience) for number in range(4)]
        for worker in workers:
            answer_of(log, worker.name)
        for _ in range(patience * 5):
            for worker in workers:
                worker.beat()
        assert all(worker.adopted == [] for worker in workers)

    def test_does_not_take_what_it_writes_itself(self) -> None:
        log = MemoryEventLog()
        worker = Worker(log, "alone")
        answer_of(log, "alone")
        worker.beat(PATIENCE * 3)
        assert worker.adopted == []

    def test_that_does_not_count_yet_is_not_taken_at_once(self) -> None:
        log = MemoryEventLog()
        heir = Worker(log, "heir")
        heir.beat(PATIENCE)
        answer_of(log, "new")
        heir.beat(PATIENCE)
        assert heir.adopted == []
        new = Worker(log, "new")
        for _ in range(PATIENCE * 2):
            new.beat()
            heir.beat()
        assert heir.adopted == []

    def test_that_never_counts_is_taken_after_all(self) -> None:
        log = MemoryEventLog()
        heir = Worker(log, "heir")
        answer_id = answer_of(log, "never")
        heir.beat(PATIENCE + 1)
        assert ids(heir) == [answer_id]

    def test_that_leaves_is_forgotten_and_what_it_released_is_taken_at_once(self) -> None:
        log = MemoryEventLog()
        leaving, heir = Worker(log, "leaving"), Worker(log, "heir")
        answer_id = answer_of(log, "leaving")
        leaving.beat()
        heir.beat()
        log.release(answer_id, 1)
        leaving.leases.leave(30)
        heir.beat()
        assert ids(heir) == [answer_id]
        assert "leaving" not in log.beat("x")


class TestAnEventLogThatIsAway:
    def test_kills_nobody(self) -> None:
        log = MemoryEventLog()
        workers = [Worker(log, f"worker{number}") for number in range(3)]
        for worker in workers:
            answer_of(log, worker.name)
            worker.beat(2)
        for worker in workers:
            worker.log.away = True
            worker.beat(PATIENCE * 5)
        for worker in workers:
            worker.log.away = False
        for _ in range(PATIENCE * 2):
            for worker in workers:
                worker.beat()
        assert all(worker.adopted == [] for worker in workers)

    def test_kills_nobody_who_notices_later_than_we_that_it_is_back(self) -> None:
        """The others may be in the longest pause between their attempts."""
        log = MemoryEventLog()
        early, late = Worker(log, "early", 2), Worker(log, "late", 2)
        answer_of(log, "late")
        for _ in range(3):
            early.beat()
            late.beat()
        early.log.away = True
        early.beat()
        early.log.away = False
        early.beat(GRACE + 1)
        assert early.adopted == []
        late.beat()
        early.beat(2)
        assert early.adopted == []
        early.beat()
        assert len(early.adopted) == 1

    @FEW
    @given(st.lists(st.sampled_from(["", "", "before", "after"]), max_size=20))
    def test_at_any_moment_of_a_takeover_loses_no_answer(self, faults: list[str]) -> None:
        """Whether the answer was taken may be unknown; it has a writer who knows in the end."""
        log = MemoryEventLog()
        heir = Worker(log, "heir")
        answers = [answer_of(log, "dead") for _ in range(3)]
        heir.beat(PATIENCE)
        heir.log.faults = list(faults)
        heir.beat(len(faults) + PATIENCE * 2 + 5)
        assert sorted(ids(heir)) == sorted(answers)
        assert {writer_of(log, answer_id) for answer_id in answers} == {"heir"}

    def test_in_the_middle_of_adopting_has_it_adopted_later(self) -> None:
        log = MemoryEventLog()
        heir = Worker(log, "heir")
        answer_id = answer_of(log, "dead")
        heir.faults = [StorageUnavailable("away"), StorageUnavailable("away")]
        heir.beat(PATIENCE + 4)
        assert ids(heir) == [answer_id]
        assert heir.faults == []


def test_an_answer_whose_adoption_has_a_fault_does_not_keep_the_others_from_theirs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = MemoryEventLog()
    heir = Worker(log, "heir")
    answers = [answer_of(log, "dead") for _ in range(3)]
    heir.faults = [ZeroDivisionError()]
    heir.beat(PATIENCE + 1)
    assert len(ids(heir)) == 2
    assert set(ids(heir)) < set(answers)
    assert "ZeroDivisionError" in caplog.text


def test_what_the_former_writer_sends_late_is_not_taken() -> None:
    log = MemoryEventLog()
    heir = Worker(log, "heir")
    answer_id = answer_of(log, "slow")
    heir.beat(PATIENCE + 1)
    late = log.write("slow", [Segment(answer_id, 1, 1, 1, b"")], [], [])
    ending = log.write("slow", [], [State(answer_id, 1, "failed", 0)], [])
    assert late.lost == ending.lost == {answer_id}


def test_a_worker_has_one_name_and_a_forked_one_another() -> None:
    me = WorkerId()
    mine = me()
    assert me() == mine
    assert WorkerId()() != mine
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, me().encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        its = pipe.read()
    os.waitpid(child, 0)
    assert its != mine
    assert str(child) in its
    assert me() == mine


def test_it_counts_by_itself_once_it_has_begun() -> None:
    log = MemoryEventLog()
    counted = threading.Event()
    beat = log.beat

    def count(writer: str) -> dict[str, int]:
        counted.set()
        return beat(writer)

    log.beat = count  # type: ignore[method-assign]
    leases = Leases(log, lambda: "me", 3.0, lambda _: None)
    leases.begin()
    assert counted.wait(30)
    leases.leave(30)
    assert log.beat("x") == {"x": 1}
