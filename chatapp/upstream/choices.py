"""Which of several choices is the answer; no I/O.

It is the first that comes; `n=2` brings others between its chunks. But there are servers that count
the chunks of their only choice in its `index`, and until one is repeated nobody knows.
"""


class FirstChoice:
    """Decides about chunks by the index of their choice, until it is `settled`."""

    __slots__ = ("_counting", "_held", "index", "settled")

    def __init__(self) -> None:
        self.index: int | None = None
        """Of the choice that is read; None: none has come."""
        self.settled = False
        """Whether the index names a choice: all with another one are left out."""
        self._held: tuple[int, bytes] | None = None
        """A chunk that may be another choice's."""
        self._counting = False

    def admitted(self, index: int, data: bytes) -> list[tuple[int, bytes]]:
        """The chunks that are known to belong to the answer with this one, and their indices."""
        if self.settled or self._counting or self.index is None:
            return [(index, data)] if index == self.index or not self.settled else []
        held = self._held
        if index == self.index or (held and index == held[0]):
            self.settled, self._held = True, None
            return [(index, data)] if index == self.index else []
        if held is None:
            self._held = index, data
            return []
        self._counting, self._held = True, None
        return [held, (index, data)]

    def rest(self) -> list[tuple[int, bytes]]:
        """What is held when the stream has ended, and nothing has shown that it is another's."""
        held, self._held = self._held, None
        return [held] if held else []
