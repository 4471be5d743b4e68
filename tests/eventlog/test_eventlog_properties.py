"""Whatever two writers do to a log, in whatever order: no gap, no overlap, nothing twice."""

import itertools
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatapp.eventlog import EventLog, Segment, State
from tests.support import event_logs
from tests.support.event_logs import record
from tests.support.hypothesis_settings import FEW

log_url, open_log, log = event_logs.log_url, event_logs.open_log, event_logs.log

NAMES = itertools.count()
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("write", "write", "retry", "unsure", "take", "late take", "read")),
        st.integers(0, 1),
        st.integers(1, 4),
    ),
    max_size=25,
)


@dataclass
class Writer:
    """What one worker believes."""

    name: str
    epoch: int = 0
    cursor: int = 0
    unsure: int = 0
    """How many events after the cursor it may have written."""


class World:
    """An answer, two workers, and what must be in the log."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.id = f"p{next(NAMES)}"
        self.writers = [Writer("one", epoch=1), Writer("two")]
        self.epoch = 1
        self.expected: list[str] = []
        log.claim(record(self.id, writer="one"))

    def flush(self, writer: Writer, count: int, known: bool = True) -> None:
        """Write `count` events, and learn of it or not; refused exactly when the epoch is old."""
        first, last = writer.cursor + 1, writer.cursor + count
        lines = [f"{writer.name}:{writer.epoch}:{number} " for number in range(first, last + 1)]
        wire = "".join(lines).encode()
        segment = Segment(self.id, writer.epoch, first, last, wire)
        written = self.log.write(writer.name, [segment], [], [])
        assert bool(written.lost) == (writer.epoch != self.epoch)
        if not written.lost:
            self.expected[first - 1 :] = lines
        if known:
            writer.cursor, writer.unsure = last, 0
        else:
            writer.unsure = count

    def take(self, writer: Writer, epoch: int) -> None:
        """Take the answer, knowing that epoch; goes well exactly when it is the present one."""
        mine = self.writers.index(writer) == self.owner and epoch + 1 == self.epoch
        took = self.log.take(self.id, epoch, writer.name)
        assert took == (epoch == self.epoch or mine)
        if took and not mine:
            known = self.log.find(self.id)
            assert known
            self.epoch = writer.epoch = known.epoch
            self.owner = self.writers.index(writer)
            writer.cursor, writer.unsure = known.last_event, 0

    owner = 0

    def step(self, what: str, writer: Writer, count: int) -> None:
        if what == "take":
            self.take(writer, self.epoch)
        elif what == "late take":
            self.take(writer, self.epoch - 1)
        elif what == "read":
            self.check(min(count, len(self.expected)))
        else:
            # What may be there is written again, and what came since with it.
            more = writer.unsure if what == "retry" and writer.unsure else writer.unsure + count
            self.flush(writer, more, what != "unsure")

    def check(self, cursor: int) -> None:
        """Read from a cursor on: exactly the rest, in segments that touch each other."""
        segments = self.log.read({self.id: cursor})[0].get(self.id, [])
        lines: list[str] = []
        for segment in segments:
            own = segment.wire.decode().split(" ")[:-1]
            assert len(own) == segment.last - segment.first + 1
            lines += [line + " " for line in own[max(cursor + 1 - segment.first, 0) :]]
        assert lines == self.expected[cursor:]
        for before, after in itertools.pairwise(segments):
            assert before.last + 1 == after.first
            assert before.epoch <= after.epoch
        if segments:
            assert segments[0].first <= cursor + 1 <= segments[0].last


# Each example has an answer of its own: they can share an event log.
@settings(FEW, suppress_health_check=list(HealthCheck))
@given(STEPS, st.integers(0, 30))
def test_two_writers_leave_one_log(
    log: EventLog, steps: list[tuple[str, int, int]], cursor: int
) -> None:
    world = World(log)
    for what, which, count in steps:
        world.step(what, world.writers[which], count)
    world.check(0)
    world.check(min(cursor, len(world.expected)))
    known = log.find(world.id)
    assert known
    assert (known.epoch, known.last_event) == (world.epoch, len(world.expected))
    state = State(world.id, world.epoch, "done", len(world.expected))
    assert not log.write("one", [], [state], []).lost


@settings(FEW, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 12), min_size=1),
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 3)), max_size=30),
    st.integers(1, 60),
)
def test_reading_page_by_page_gives_what_reading_at_once_gives(
    log: EventLog, cursors: dict[str, int], writes: list[tuple[str, int]], room: int
) -> None:
    names = {letter: f"{letter}{next(NAMES)}" for letter in "abcdef"}
    ends = dict.fromkeys("abcdef", 0)
    for name in names.values():
        log.claim(record(name))
    for letter, count in writes:
        first, ends[letter] = ends[letter] + 1, ends[letter] + count
        wire = b"x" * (ends[letter] * 3)
        log.write("me", [Segment(names[letter], 1, first, ends[letter], wire)], [], [])
    at = {names[letter]: min(cursor, ends[letter]) for letter, cursor in cursors.items()}
    whole, missing = log.read(at)
    assert missing == set()
    assert {name for name in at if at[name] < ends[name[0]]} == set(whole)
    paged: dict[str, list[Segment]] = {}
    while page := log.read(at, room)[0]:
        for name, segments in page.items():
            paged.setdefault(name, []).extend(segments)
            at[name] = segments[-1].last
    assert paged == whole
