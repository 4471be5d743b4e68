"""An answer as the event log takes it: its record, and its events in segments."""

from typing import Final

from ..answers.answer import Answer
from ..answers.events import Event, EventType, event_data
from ..answers.outcome import Status
from ..answers.sse import encode
from ..eventlog import Record, Segment

MAX_SEGMENT_BYTES: Final = 1 << 20
"""Maximum bytes of a segment."""


def new_segments(answer: Answer, cursor: int) -> list[Segment]:
    """What an answer has written after event `cursor`, in segments."""
    log, epoch = answer.log, answer.epoch
    try:
        wire, last = log.read(cursor)
        if last == cursor:
            return []
        if len(wire) <= MAX_SEGMENT_BYTES:
            return [Segment(answer.id, epoch, cursor + 1, last, wire)]
        return _cut(answer, cursor, last)
    except LookupError:
        # While the event log was down, the live log dropped its oldest events. Readers on other
        # workers get a snapshot instead.
        transcript = log.transcript()
        number, fields = transcript.number, answer.snapshot_fields(transcript)
        if log.ends_at(number):
            number -= 1
        frame = encode(Event(number, EventType.SNAPSHOT, event_data(fields)))
        return [Segment(answer.id, epoch, cursor + 1, number, frame), *new_segments(answer, number)]


def _cut(answer: Answer, cursor: int, last: int) -> list[Segment]:
    """Segments of whole events, none too long."""
    segments: list[Segment] = []
    frames: list[bytes] = []
    first, size = cursor + 1, 0
    for event in answer.log.events(cursor, last):
        frames.append(encode(event))
        size += len(frames[-1])
        if size > MAX_SEGMENT_BYTES or event.number == last:
            segments.append(Segment(answer.id, answer.epoch, first, event.number, b"".join(frames)))
            frames, first, size = [], event.number + 1, 0
    return segments


def record_of(answer: Answer, writer: str) -> Record:
    """The record of an answer that this worker writes."""
    return Record(
        id=answer.id,
        owner=answer.owner,
        key=answer.key,
        conversation_id=answer.conversation_id,
        model=answer.model,
        created_at=answer.created_at.timestamp(),
        writer=writer,
        epoch=answer.epoch,
        status=Status.PENDING,
        stop=False,
        last_event=0,
        request=answer.request,
        refusal=None,
    )
