"""The events of an answer whose log is gone, made from its stored message."""

from ..answers import sse
from ..answers.events import Event, EventType, event_data
from ..answers.outcome import Outcome, Transcript


def frames_of_stored_answer(
    start: Event | None, transcript: Transcript, status: str, outcome: Outcome
) -> bytes:
    """A snapshot and the last event, as wire bytes.

    :param start: event 1, for a reader that has nothing yet.
    """
    last = transcript.number
    snapshot = event_data(transcript.fields() | {"status": status})
    if outcome.error:
        end = Event(last, EventType.FAILED, event_data(outcome.error.fields()))
    else:
        end = Event(last, EventType.DONE, event_data(outcome.done_fields()))
    frames = sse.encode(start) if start else b""
    return frames + sse.encode(Event(last - 1, EventType.SNAPSHOT, snapshot)) + sse.encode(end)
