"""The log of one answer in the memory of the worker that writes it.

Events are kept in wire format, end to end in one buffer: they are encoded once for all readers, and
what a reader lacks is one slice. One thread appends; any number of threads read.
"""

import time
from array import array
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from .checkpoints import SPACING, Checkpoint, Checkpoints, Cutters
from .events import DELTAS, TERMINAL, Event, EventType, encode_json, one_line
from .outcome import Transcript
from .sse import DELTA_FORMATS, decode_frame, encode

_TEXT: Final = EventType.TEXT


class _Kept(NamedTuple):
    """What is in memory. Replaced as a whole, so that no reader sees a half-finished trim."""

    first: int
    """The number of the first event in `wire`."""
    wire: bytearray
    ends: "array[int]"
    """For each event, where it ends in `wire`. Extended last, so what it counts is complete."""


class LiveLog:
    """Numbered events, append-only.

    :param max_bytes: beyond this, the older half of the events is dropped; the text stays.
    """

    __slots__ = (
        "_checkpoints", "_complete", "_kept", "_max_bytes", "_newest", "_reasoning", "_text",
    )  # fmt: skip

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._complete = 0
        """The latest event whose text is in `_text` or `_reasoning`."""
        self._kept = _Kept(1, bytearray(), array("Q"))
        self._text = bytearray()
        self._reasoning = bytearray()
        self._checkpoints = Checkpoints()
        self._newest = (0, b"")
        """The number and the wire bytes of the latest piece: all that most readers lack."""

    @property
    def last(self) -> int:
        """The number of the latest event; 0 before the first."""
        first, _, ends = self._kept
        return first + len(ends) - 1

    @property
    def size(self) -> int:
        """Bytes of events in memory."""
        return len(self._kept.wire) + len(self._text) + len(self._reasoning)

    def text(self, kind: EventType = EventType.TEXT) -> str:
        """All text (or reasoning) so far."""
        return (self._text if kind is _TEXT else self._reasoning).decode()

    def append(self, kind: EventType, data: bytes) -> None:
        """Add an event; its number is `last` + 1."""
        first, wire, ends = self._kept
        number = first + len(ends)
        wire += encode(Event(number, kind, data))
        ends.append(len(wire))
        self._complete = number
        if len(wire) > self._max_bytes:
            self._trim()

    def append_piece(self, kind: EventType, text: str) -> None:
        """Add a piece of text or reasoning."""
        first, wire, ends = self._kept
        number = first + len(ends)
        data = encode_json(text)
        if not text.isascii() and text.splitlines() != [text]:
            data = one_line(data)
        frame = DELTA_FORMATS[kind] % (data, number)
        wire += frame
        size = len(wire)
        ends.append(size)
        if kind is _TEXT:
            self._text += text.encode()
        else:
            self._reasoning += text.encode()
        self._complete = number
        self._newest = number, frame
        if size > self._max_bytes:
            self._trim()

    def restart(self, transcript: Transcript) -> None:
        """Continue after a transcript: its text is known, its events are not.

        A reader that has read less gets a snapshot.
        """
        number = transcript.number
        self._complete = -1  # A transcript is taken when all is there.
        self._text = bytearray(transcript.text, "utf-8")
        self._reasoning = bytearray(transcript.reasoning, "utf-8")
        self._kept = _Kept(number + 1, bytearray(), array("Q"))
        self._checkpoints = Checkpoints()
        self._newest = (0, b"")
        self._complete = number

    def transcript(self) -> Transcript:
        """What is written so far, up to the latest event."""
        while True:
            number = self._complete
            text, reasoning = self.text(), self.text(EventType.REASONING)
            if number == self.last == self._complete:
                return Transcript(number, text, reasoning)
            time.sleep(0)  # Another thread has appended a piece, but not yet its text.

    def ends_at(self, number: int) -> bool:
        """Whether this event is the answer's last one."""
        try:
            return any(event.type in TERMINAL for event in self.events(number - 1, number))
        except LookupError:  # The last one is always kept.
            return False

    def reaches(self, cursor: int) -> bool:
        """Whether all events after `cursor` are still here."""
        return self._kept.first - 1 <= cursor <= self.last

    def read(self, cursor: int) -> tuple[bytes, int]:
        """Everything after event `cursor` as wire bytes, and the new cursor.

        :raises LookupError: when the log no longer reaches back to the cursor.
        """
        number, frame = self._newest
        if cursor == number - 1 and number == self._complete:
            return frame, number
        first, wire, ends = self._kept
        index, count = cursor + 1 - first, len(ends)
        if index < 0:
            raise LookupError(f"event {cursor + 1} is gone; the first kept is {first}")
        if index >= count:
            return b"", cursor
        start = ends[index - 1] if index else 0
        return bytes(wire[start : ends[count - 1]]), first + count - 1

    def events(self, cursor: int, to: int | None = None) -> list[Event]:
        """The events after `cursor`, up to and with `to`.

        :raises LookupError: as `read`.
        """
        first, wire, ends = self._kept
        index = cursor + 1 - first
        if index < 0:
            raise LookupError(f"event {cursor + 1} is gone; the first kept is {first}")
        stop = len(ends) if to is None else min(len(ends), to + 1 - first)
        if index >= stop:
            return []
        start = ends[index - 1] if index else 0
        events = []
        for i in range(index, stop):
            events.append(decode_frame(bytes(wire[start : ends[i]]), first + i))
            start = ends[i]
        return events

    def add_checkpoint(self, cutters: Cutters) -> None:
        """Keep the state of the writer's cutters, which have had all text so far."""
        sizes = {EventType.TEXT: len(self._text), EventType.REASONING: len(self._reasoning)}
        self._checkpoints.add(Checkpoint(self._complete, sizes, cutters).copied())

    def cutters_at(self, cursor: int, pause: Callable[[], None] = lambda: None) -> Cutters:
        """Cutters that have had all text up to event `cursor`.

        :param pause: called after every few KB that had to be searched.
        :raises LookupError: as `read`.
        """
        cursor, kept = min(cursor, self.last), self._checkpoints
        point, searched, number = kept.before(cursor), 0, None
        for number, kind, text in self._between(point, cursor):
            point.cutters[kind].feed(text)
            point.sizes[kind] += len(text.encode())
            searched += len(text)
            if searched >= SPACING:
                searched = 0
                if number is not None:
                    kept.add(point._replace(number=number).copied())
                pause()
        # Pieces that are gone have no numbers, but their text ends where this event begins.
        if number is None and point.number < cursor:
            kept.add(point._replace(number=cursor).copied())
        return point.cutters

    def _between(
        self, point: Checkpoint, cursor: int
    ) -> Iterator[tuple[int | None, EventType, str]]:
        """The text after a checkpoint up to `cursor`, in order, with the numbers of its events."""
        at = point.number
        if self.reaches(at):
            while at < cursor and (events := self.events(at, min(at + SPACING, cursor))):
                for number, kind, text in ((e.number, e.type, e.text) for e in _deltas(events)):
                    yield number, kind, text
                at = events[-1].number
            return
        transcript = self.transcript()
        later = list(_deltas(self.events(cursor, transcript.number)))
        for kind, begin in point.sizes.copy().items():
            encoded = transcript.of(kind).encode()
            end = len(encoded) - sum(len(e.text.encode()) for e in later if e.type is kind)
            text = encoded[begin:end].decode()
            for at in range(0, len(text), SPACING):
                yield None, kind, text[at : at + SPACING]

    def _trim(self) -> None:
        first, wire, ends = self._kept
        # At least one event stays, however large it is: the newest may be the end of the answer.
        drop = min(sum(1 for end in ends if end <= len(wire) // 2) + 1, len(ends) - 1)
        if drop > 0:
            cut = ends[drop - 1]
            kept = array("Q", (end - cut for end in ends[drop:]))
            self._kept = _Kept(first + drop, wire[cut:], kept)


def _deltas(events: list[Event]) -> Iterator[Event]:
    return (event for event in events if event.type in DELTAS)
