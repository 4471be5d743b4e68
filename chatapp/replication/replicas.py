"""Answers that other workers write, read from the event log by one thread.

A replica is an `Answer` whose live log is fed from the event log instead of an upstream. Readers
follow it as they follow an answer that is written here. A takeover starts from a replica.
"""

import threading
import time
from datetime import UTC, datetime
from typing import Any, Final

from ..answers.answer import Answer
from ..answers.events import DELTAS, TERMINAL, EventType
from ..answers.live_log import LiveLog
from ..answers.outcome import Outcome, Status, Transcript
from ..answers.sse import decode_frames
from ..errors import restored
from ..eventlog import EventLog, Record, Segment
from ..runtime.background import BackgroundTask
from ..settings import Settings

UNREAD_KEPT: Final = 10.0
"""Seconds that a replica without readers is kept."""

NOTES_BEFORE_ABANDONED: Final = 4
"""How often a writer hears of readers within `abandon_after`."""


class Replicas:
    """The replicas of this worker."""

    def __init__(self, log: EventLog, settings: Settings) -> None:
        self._log = log
        self._settings = settings
        self._lock = threading.Lock()
        self._replicas: dict[str, Answer] = {}
        self._note_readers_at = 0.0
        """Monotonic seconds of the next note of readers."""
        self._background = BackgroundTask("readers of the event log", self._poll)

    def __len__(self) -> int:
        return len(self._replicas)

    @property
    def readers(self) -> int:
        """How many connections follow one of them."""
        return sum(len(replica.readers) for replica in tuple(self._replicas.values()))

    def find(self, answer_id: str) -> Answer | None:
        """An answer as the event log has it; None: unknown, or it never began.

        :raises StorageUnavailable:
        """
        replica = self._touched(answer_id)
        if replica is None:
            record = self._log.find(answer_id)
            if record is None or record.status == "refused":
                return None
            replica = self.load(record)
            if replica is None or not replica.running:
                return replica  # Nothing more will come, so it need not be polled.
            with self._lock:
                replica = self._replicas.setdefault(answer_id, replica)
                replica.unread_since = time.monotonic()
        self._background.wake()
        return replica

    def load(self, record: Record) -> Answer | None:
        """A replica of what its record says is written; None if it is gone by now.

        What is written while this reads comes with the next poll: otherwise a slow event log would
        be read for as long as the answer grows.

        :raises StorageUnavailable:
        """
        log = LiveLog(self._settings.log_max_bytes)
        replica = Answer(record.owner, log, self._settings.answer_max_chars, record.id)
        replica.key, replica.model, replica.epoch = record.key, record.model, record.epoch
        replica.conversation_id, replica.request = record.conversation_id, record.request
        replica.accepted = record.status != Status.PENDING
        replica.accepted_or_refused.set()
        replica.created_at = datetime.fromtimestamp(record.created_at, UTC)
        while log.last < record.last_event:
            segments, gone = self._log.read({record.id: log.last})
            if gone:
                return None
            if not segments.get(record.id):
                break
            absorb(replica, segments[record.id])
        return replica

    def drop(self, answer_id: str) -> None:
        """Drop a replica; its readers reconnect, and find the answer's new state."""
        with self._lock:
            replica = self._replicas.pop(answer_id, None)
        if replica is not None:
            replica.moved = True
            replica.wake_readers()

    def drain(self) -> None:
        """Tell all readers to reconnect elsewhere."""
        for answer_id in tuple(self._replicas):
            self.drop(answer_id)

    def _poll(self) -> float | None:
        """Read what is new in all replicas that have not ended."""
        self._drop_unread()
        running = {each.id: each for each in tuple(self._replicas.values()) if each.running}
        if running:
            cursors = {answer_id: replica.log.last for answer_id, replica in running.items()}
            segments, gone = self._log.read(cursors)
            for answer_id, new in segments.items():
                absorb(running[answer_id], new)
            for answer_id in gone:
                self.drop(answer_id)
            self._note_readers()
        return self._settings.poll_interval if self._replicas else None

    def _note_readers(self) -> None:
        """Keep writers from stopping, as abandoned, what is read here."""
        now, limit = time.monotonic(), self._settings.abandon_after
        if not limit or now < self._note_readers_at:
            return
        read = [each.id for each in tuple(self._replicas.values()) if each.readers]
        if read:
            self._log.note_readers(read)
            self._note_readers_at = now + limit / NOTES_BEFORE_ABANDONED

    def _touched(self, answer_id: str) -> Answer | None:
        """An existing replica, kept until its reader arrives."""
        with self._lock:
            if replica := self._replicas.get(answer_id):
                replica.unread_since = time.monotonic()
        return replica

    def _drop_unread(self) -> None:
        oldest_allowed = time.monotonic() - UNREAD_KEPT
        with self._lock:
            for answer_id, replica in tuple(self._replicas.items()):
                if not replica.readers and replica.unread_since < oldest_allowed:
                    del self._replicas[answer_id]


def absorb(answer: Answer, segments: list[Segment]) -> None:
    """Append what another worker has written."""
    for segment in segments:
        time.sleep(0)  # A long answer has many; others have their turn.
        for event in decode_frames(segment.wire, segment.first):
            # A snapshot is alone in its segment, and replaces all events of it.
            reaches = segment.last if event.type is EventType.SNAPSHOT else event.number
            if reaches <= answer.log.last:
                continue
            if event.type in DELTAS:
                answer.status, answer.accepted = Status.STREAMING, True
                answer.log.append_piece(event.type, event.text)
            elif event.type is EventType.SNAPSHOT:
                fields = event.fields()
                written = Transcript(segment.last, fields["text"], fields["reasoning"])
                answer.accepted = answer.accepted or fields["status"] != Status.PENDING
                answer.log.restart(written)
            else:
                _note(answer, event.type, event.fields())
                answer.log.append(event.type, event.data)
            if event.type in TERMINAL:
                answer.ended_at = time.monotonic()
    answer.wake_readers()


def _note(answer: Answer, kind: EventType, fields: dict[str, Any]) -> None:
    """Set the answer's fields from an event."""
    if kind is EventType.START:
        answer.conversation_id, answer.model = fields["conversation_id"], fields["model"]
    elif kind is EventType.TOOL:
        answer.accepted = True
    elif kind is EventType.DONE:
        answer.outcome = Outcome(**fields)
        stopped = answer.outcome.finish_reason == "stopped"
        answer.status = Status.STOPPED if stopped else Status.DONE
    elif kind is EventType.FAILED:
        answer.status, answer.outcome = Status.FAILED, Outcome(error=restored(fields))
