"""The contract of an event log, whatever stores it: all workers' answers, as all workers see them.

An answer's log is written by one worker at a time. A takeover raises the answer's epoch, and from
then on the log rejects the former writer: that is the fence. A log grows only at its end, so it has
neither gaps nor overlaps.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from ..runtime.setup_fault import SetupFault

MAX_READ_BYTES: Final = 4 << 20
MAX_ORPHANS: Final = 1000
MAX_PUBLISHED: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What all workers know of an answer."""

    id: str
    owner: str
    key: str | None
    """The idempotency key; together with the owner it identifies one answer."""
    conversation_id: str | None
    model: str | None
    created_at: float
    """Unix time, in seconds."""
    writer: str | None
    """The worker that writes it; None: released."""
    epoch: int
    """From 1; incremented with each change of the writer."""
    status: str
    """`pending`, `streaming`, `done`, `failed`, `stopped` or `refused`."""
    stop: bool
    """Whether a stop was requested."""
    last_event: int
    """The log's newest event. In a record that is claimed: the last one before the log begins."""
    request: bytes | None
    """The request to the model, for a takeover; dropped when the answer ends."""
    refusal: bytes | None
    """Why it never began."""
    crashes: int = 0
    """How many of its writers died."""


class Segment(NamedTuple):
    """Consecutive events of one answer, in wire format."""

    answer_id: str
    epoch: int
    first: int
    last: int
    wire: bytes


class State(NamedTuple):
    """A new status of an answer. After a final one, nothing more is written."""

    answer_id: str
    epoch: int
    status: str
    last_event: int
    """With a final status: the last event, which the log must have reached."""
    frees_key: bool = False
    """With a final status: the answer's key stands for nothing any more."""


class PendingMessage(NamedTuple):
    """Something to publish."""

    recipient: str | None
    """The owner it is for; None: everyone."""
    event: str
    data: bytes


class PublishedMessage(NamedTuple):
    number: int
    recipient: str | None
    event: str
    data: bytes
    published_at: float
    """Unix time, in seconds."""


class Written(NamedTuple):
    """The outcome of a flush."""

    lost: frozenset[str]
    stops: frozenset[str]
    numbers: list[int]
    reads: Mapping[str, int] = {}


class EventLog(Protocol):
    """The answers' records and logs, the workers' heartbeats, and publications.

    :raises StorageUnavailable: from every method, within about 5 s: what keeps the log is away. The
        outcome is then unknown. Each method may be called again with the same arguments, and works
        once the storage is back. `Misconfigured`: it does not work as it is set up.
    """

    shared: bool
    """Whether other processes have the same one."""

    def claim(self, record: Record) -> Record:
        """Add a record, unless it is there or its owner's key stands for another answer.

        Of many at the same moment, in all workers, one adds. The record may say any epoch and any
        `last_event`: a writer whose answer is gone from the log (`write`) claims it again as it
        was, and its next segment is the one after `last_event`.

        :returns: the stored record; its `id` shows whether it is the given one.
        """

    def add(self, records: Sequence[Record]) -> None:
        """As `claim` for each of these, which have no keys, all in one go."""

    def find(self, answer_id: str) -> Record | None:
        """The current record; None: unknown, or dropped."""

    def write(
        self,
        writer: str,
        segments: Sequence[Segment],
        states: Sequence[State],
        posts: Sequence[PendingMessage],
    ) -> Written:
        """One flush of one worker: all of it together, in one round trip. May be empty.

        A segment goes to the end of its log. One that is there already is skipped. One that begins
        where another of its epoch begins and goes on beyond the log's end replaces what is there:
        a flush whose outcome is unknown may be written again, also grown. Segments of one answer
        are given in their order. Posts of a flush that is written again may be published twice.

        :returns: `lost`: answers of which nothing (more) was taken. `find` tells why: the record is
            gone; its epoch is another, so the answer has another writer; or it is the same, and
            the storage has lost events: go on after its `last_event`.
            `stops`: the running answers of this writer that somebody asked to stop.
            `numbers`: those of the posts. Over all workers they have no gaps, and whoever sees a
            number has seen, or can see, all lower ones. They never begin anew.
            `reads`: how often readers were noted, of the running answers of this writer that have
            had any.
        """

    def read(
        self, cursors: Mapping[str, int], max_bytes: int = MAX_READ_BYTES
    ) -> tuple[dict[str, list[Segment]], frozenset[str]]:
        """What each answer's log has after a cursor, for any number of answers together.

        The first segment of an answer may begin before its cursor: it is the one that has the next
        event in it.

        :param max_bytes: of all wire bytes together. What does not fit comes with the next call: of
            each answer some segments follow each other from the cursor on, or there are none. Those
            that are far behind don't keep the others waiting. At least one segment is returned if
            there is one.
        :returns: by answer, of those that have news; and those that are not there.
        """

    def request_stop(self, answer_id: str) -> None:
        """Leave a mark that the writer's next `write` tells of, whoever that is by then."""

    def note_readers(self, answer_ids: Iterable[str]) -> None:
        """Tell the writers, by their next `write`, that these answers are read elsewhere."""

    def release(self, answer_id: str, epoch: int) -> None:
        """Let another worker take a running answer. Does nothing if the epoch differs."""

    def refuse(self, answer_id: str, epoch: int, refusal: bytes) -> None:
        """End a running answer that never began. Does nothing when the epoch is another.

        Its key is free immediately, and its record keeps the refusal.
        """

    def discard(self, answer_ids: Iterable[str]) -> None:
        """Forget answers, running ones too: records, keys and logs."""

    fault: SetupFault
    """What is wrong with how it is set up."""

    def beat(self, writer: str) -> dict[str, int]:
        """Increment this worker's counter. Returns the counters of all workers."""

    def beat_here(self, writer: str) -> None:
        """Give a sign of life in a native thread, which nothing of `beat` may run in.

        It does nothing where nobody else could see it, or where the event log was not used yet.
        """

    def leave(self, writers: Iterable[str]) -> None:
        """Remove workers that are gone."""

    def orphans(self, alive: Collection[str]) -> list[Record]:
        """At most 1000 running answers that are released, or whose writer is none of these."""

    def take(self, answer_id: str, epoch: int, writer: str) -> bool:
        """Become the writer of a running answer, in the epoch after this one.

        One that was not free has lost its writer by a crash, and that is counted.

        Of several workers one gets True. It gets True again if it calls again, for it may not have
        learned of the first.
        """

    def published(self, after: int, limit: int = MAX_PUBLISHED) -> list[PublishedMessage]:
        """The publications after a number, in order."""

    def last_published(self) -> int:
        """The newest publication's number, also when it is not kept any more; 0: there was none."""

    def tidy(self, answer_age: float, max_bytes: int, post_age: float, posts_kept: int) -> None:
        """Forget what is old. Answers that run are never touched.

        :param answer_age: seconds since the end of an answer.
        :param max_bytes: what the logs of ended answers may have together; the ones that ended
            first go first.
        :param post_age: seconds since the publication.
        :param posts_kept: maximum publications.
        """

    def close(self) -> None:
        """Close connections."""


def before_first_message() -> int:
    """Where a new series of publications begins.

    It is the time in milliseconds. So a storage that has lost everything continues above all
    numbers that it ever assigned, and a reader that waits for higher ones misses nothing.
    """
    return time.time_ns() // 1_000_000
