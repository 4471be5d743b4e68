"""The event streams that are open in this worker: how many of whom, and how they are ended.

A request's identity is that of its beginning: the session of the one who asked is in its cookies.
So a stream does not ask again who is there, but ends, and its client comes back with what it has
then. A client that is signed out is refused.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from ..errors import TooManyStreams
from ..identity.owners import is_visitor
from ..runtime.background import BackgroundTask
from ..settings import Settings

MIN_LOOK_SECONDS: Final = 0.05
MAX_LOOK_SECONDS: Final = 5.0
"""Bounds of the seconds between looks for streams that are too old."""


class OpenStream:
    """One stream, from its request to its end.

    :param ages: whether it ends after a time, since its owner may have signed out.
    """

    def __init__(self, owner: str, address: str | None, *, ages: bool) -> None:
        self.owner = owner
        self.address = address
        self.ages = ages
        self.since = time.time()
        """Unix seconds, to be compared with what other workers publish."""
        self.taken = False
        """Whether a response streams."""
        self.end: Callable[[], None] = lambda: None
        """Has the client come back."""


class OpenStreams:
    """The open streams of one worker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._streams: set[OpenStream] = set()
        self._owners: Counter[str] = Counter()
        self._addresses: Counter[str | None] = Counter()
        self._background = BackgroundTask("open streams", self._end_old)

    def __len__(self) -> int:
        return len(self._streams)

    def open(self, owner: str, address: str | None = None, *, ticket: bool = False) -> OpenStream:
        """Count one more.

        :param address: is counted too, for an owner whom nothing but a cookie tells from others.
        :param ticket: whether the reader has nothing else: tickets expire.
        :raises TooManyStreams:
        """
        stream = OpenStream(owner, address, ages=not is_visitor(owner) and not ticket)
        settings = self._settings
        with self._lock:
            if self._owners[owner] >= settings.max_streams_per_owner:
                raise TooManyStreams(
                    f"{settings.max_streams_per_owner} event streams are open for you already. "
                    "Close a page, then try again.",
                    retry_after=30,
                )
            if address and self._addresses[address] >= settings.max_streams_per_address:
                raise TooManyStreams(
                    "Too many event streams are open from your network's address. Try again later.",
                    retry_after=30,
                )
            self._streams.add(stream)
            self._owners[owner] += 1
            self._addresses[address] += 1
        if stream.ages:
            self._background.wake()
        return stream

    def close(self, stream: OpenStream) -> None:
        """It has ended. May be repeated."""
        with self._lock:
            if stream not in self._streams:
                return
            self._streams.discard(stream)
            for counts, name in ((self._owners, stream.owner), (self._addresses, stream.address)):
                counts[name] -= 1  # type: ignore[index]
                if not counts[name]:  # type: ignore[index]
                    del counts[name]

    def disconnect(self, owner: str, before: float | None = None) -> None:
        """End an owner's streams; the clients come back as who they are then.

        :param before: Unix seconds; only streams that were opened earlier.
        """
        for stream in tuple(self._streams):
            if stream.owner == owner and (before is None or stream.since < before):
                stream.end()

    def _end_old(self) -> float | None:
        age = self._settings.stream_age
        aging = [stream for stream in tuple(self._streams) if stream.ages]
        if not aging or not age:
            return None
        oldest_allowed = time.time() - age
        for stream in aging:
            if stream.since < oldest_allowed:
                stream.end()
        return min(max(age / 4, MIN_LOOK_SECONDS), MAX_LOOK_SECONDS)
