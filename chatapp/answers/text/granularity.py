"""How much of an answer is one event: a token, a word, a sentence or everything.

The writer splits what the model sends so that no word and no sentence ends inside an event. A
coarser reader then only joins neighbouring events, and a cursor is always one event number, even if
the granularity changes at a reconnect.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import pairwise
from typing import Final

from ..events import DELTAS, Event, EventType, delta_data
from .sentences import SentenceCutter
from .words import cuts_word, last_word_boundary

_PLAIN: Final = re.compile(" ?[A-Za-z0-9]+").fullmatch
"""One word, as most tokens are: no boundary in it, and nothing that could end a sentence."""


class Granularity(StrEnum):
    """The values of `?granularity=`."""

    TOKEN = "token"  # noqa: S105 - a piece of text, not a secret
    WORD = "word"
    SENTENCE = "sentence"
    FULL = "full"


class Splitter:
    """The writer's side: splits the pieces of one text, in order."""

    __slots__ = ("cutter",)

    def __init__(self, cutter: SentenceCutter | None = None) -> None:
        self.cutter = cutter or SentenceCutter()
        """What has had all the text so far."""

    def split(self, text: str) -> tuple[str, ...]:
        """The text in non-empty parts; no word or sentence ends inside one."""
        if _PLAIN(text) and self.cutter.take_plain(text):
            return (text,)
        cuts = self.cutter.feed(text)
        word = last_word_boundary(text)
        if not word and not cuts:
            return (text,)
        edges = sorted({0, *cuts, word, len(text)})
        return tuple(text[a:b] for a, b in pairwise(edges))


class Joiner:
    """A reader's side: events in, the same text in fewer events out.

    :param cutters: those that have had the text and the reasoning that the reader already has, so
        that sentences are recognised if the reader starts in the middle of one.
    """

    __slots__ = ("_cutters", "_granularity", "_held", "_texts")

    def __init__(
        self, granularity: Granularity, cutters: Mapping[EventType, SentenceCutter] | None = None
    ) -> None:
        self._granularity = granularity
        self._held: Event | None = None
        self._texts: list[str] = []
        self._cutters = cutters or {kind: SentenceCutter() for kind in DELTAS}

    def join(self, events: Iterable[Event]) -> Iterator[Event]:
        """The events that are complete; a joined one has the number of its last part."""
        for event in events:
            if event.type not in DELTAS:
                yield from self._release()
                yield event
                continue
            text = event.text
            cuts = self._cuts(event, text)
            if self._held and (self._held.type is not event.type or 0 in cuts):
                yield from self._release()
            self._held = event
            self._texts.append(text)
            if len(text) in cuts:
                yield from self._release()

    def _cuts(self, event: Event, text: str) -> list[int]:
        """Where a piece ends: before this event (0) or after it (its length)."""
        if self._granularity is Granularity.SENTENCE:
            return self._cutters[event.type].feed(text)
        if self._granularity is Granularity.WORD and self._texts:
            return [] if cuts_word(self._texts[-1], text) else [0]
        return []

    def _release(self) -> Iterator[Event]:
        if self._held:
            data = self._held.data if len(self._texts) == 1 else delta_data("".join(self._texts))
            yield self._held._replace(data=data)
            self._held, self._texts = None, []
