"""The push channel: what server code publishes, and every open page of its addressee receives."""

import re
import secrets
import threading
import time
from collections import deque
from typing import Any, Final, NamedTuple

import msgspec

from . import sse
from .answer import Reader
from .errors import InvalidRequest

EVENT_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
RESERVED: Final = frozenset({"error", "open", "message"})
"""`EventSource` fires these itself."""


class Publication(NamedTuple):
    number: int
    to: str | None
    """The owner it is for; None: everyone."""
    frame: bytes
    published_at: float


class PushChannel:
    """Publications, numbered, of which the latest are kept for pages that reconnect.

    :param kept: how many publications are kept at the most.
    :param age: for how many seconds they are kept.
    :param max_bytes: the size of one publication's data.
    """

    def __init__(self, kept: int, age: float, max_bytes: int) -> None:
        self._lock = threading.Lock()
        self._log: deque[Publication] = deque(maxlen=kept)
        self._age = age
        self._max_bytes = max_bytes
        # Numbers begin anew with each process; the mark tells a cursor of an earlier one apart.
        self._mark = secrets.token_hex(4)
        self._last = 0
        self.readers: set[Reader] = set()
        self.leaving = False

    def publish(self, event: str, data: Any, to: str | None = None) -> None:
        """Send an event to the open pages of one owner, or of everyone.

        :param event: its name: letters, digits, `_`, `.`, `:` and `-`.
        :param data: anything that JSON can say.
        :raises InvalidRequest: a bad name, or data that is too large or no JSON.
        """
        if not EVENT_NAME.fullmatch(event) or event in RESERVED:
            raise InvalidRequest(
                f"{event!r} can't name an event. Take letters, digits, '_', '.', ':' and '-', "
                f"and none of {', '.join(sorted(RESERVED))}.",
                param="event",
            )
        try:
            encoded = msgspec.json.encode(data)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequest(f"The data is no JSON: {error}.", param="data") from None
        if len(encoded) > self._max_bytes:
            raise InvalidRequest(
                f"The data has {len(encoded)} bytes; {self._max_bytes} are allowed.", param="data"
            )
        with self._lock:
            self._last += 1
            frame = sse.encode_named(event, encoded, f"{self._mark}-{self._last}")
            self._log.append(Publication(self._last, to, frame, time.monotonic()))
        self._ring()

    def leave(self) -> None:
        """Tell every page to come back elsewhere."""
        self.leaving = True
        self._ring()

    def _ring(self) -> None:
        for reader in tuple(self.readers):
            reader.ring()

    def after(self, number: int) -> list[Publication]:
        """What is kept and newer."""
        oldest_allowed = time.monotonic() - self._age
        with self._lock:
            while self._log and self._log[0].published_at < oldest_allowed:
                self._log.popleft()
            # Numbers have no gaps, so what is newer is counted from the end, not looked for.
            newer = min(max(self._last - number, 0), len(self._log))
            return [self._log[index] for index in range(-newer, 0)]

    def position(self, cursor: str | None) -> int:
        """The number that a client's cursor stands for.

        Without one a page begins with what comes now. A cursor of an earlier process is behind
        everything that this one has published.
        """
        if not cursor:
            return self._last
        mark, _, number = cursor.partition("-")
        if mark == self._mark and number.isascii() and number.isdecimal() and len(number) < 19:
            return int(number)
        return 0


class PushReader:
    """One page's view of the channel; a `Feed`."""

    over = False

    def __init__(self, channel: PushChannel, owner: str, cursor: str | None) -> None:
        self._channel = channel
        self._owner = owner
        self._number = channel.position(cursor)

    def leaving(self) -> bool:
        return self._channel.leaving

    def enter(self, bell: Reader) -> None:
        self._channel.readers.add(bell)

    def exit(self, bell: Reader) -> None:
        self._channel.readers.discard(bell)

    def read(self) -> bytes:
        """The frames that are new and for this owner."""
        news = self._channel.after(self._number)
        if news:
            self._number = news[-1].number
        return b"".join(each.frame for each in news if each.to in (None, self._owner))
