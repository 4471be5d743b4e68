"""The push channel: server code publishes, and every open page of the addressee receives.

Publications go through the event log, which numbers them for all workers. Each worker reads it once
for all of its pages, while there are any, and keeps the latest for pages that reconnect.
"""

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from ..answers import sse
from ..answers.events import encode_json, one_line
from ..errors import InvalidRequest, StorageUnavailable
from ..eventlog import EventLog, PendingMessage, PublishedMessage
from ..identity.owners import everyone
from ..runtime.background import BackgroundTask
from ..runtime.wakers import Wakeable
from ..settings import Settings

logger = logging.getLogger(__name__)

EVENT_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
RESERVED: Final = frozenset({"error", "open", "message"})
"""`EventSource` fires these itself."""
DISCONNECT: Final = "disconnect!"
"""Tells all workers to end the streams of an owner; no publication has such a name."""
FORGET: Final = "forget!"
"""The same, and to keep nothing of the owner's."""
SLOW_POLL: Final = 1.0
"""Seconds between reads for a worker without pages, whose other streams may have to end."""
MAX_READ_MESSAGES: Final = 1000
"""Maximum publications per read."""


class Kept(NamedTuple):
    """A publication in wire format."""

    number: int
    to: str | None
    """The owner it is for; None: everyone."""
    published_at: float
    """Unix seconds."""
    frame: bytes


class PushChannel:
    """The publications of all workers; the latest are kept.

    :param post: passes a publication to the event log.
    :param chat: the chat's name, for publications to everyone.
    """

    def __init__(
        self,
        settings: Settings,
        log: EventLog,
        post: Callable[[PendingMessage], None],
        chat: str = "",
    ) -> None:
        self._settings = settings
        self._log = log
        self._post = post
        self.everyone = everyone(chat)
        self._lock = threading.Lock()
        self._kept: deque[Kept] = deque(maxlen=settings.push_kept)
        self._last: int | None = None
        """The number of the latest publication read; None: none yet."""
        self._background = BackgroundTask("push channel", self._poll)
        self.readers: set[Wakeable] = set()
        self.draining = False
        self._reads = False
        """Whether a next read is planned."""
        self.has_streams: Callable[[], bool] = lambda: False
        """Whether streams of any kind are open here."""
        self.told: Callable[[str, str, float], None] = lambda *_: None
        """Gets `DISCONNECT` or `FORGET`, an owner and when that was published."""

    def publish(self, event: str, data: Any, to: str | None = None) -> None:
        """Send an event to the open pages of one owner, or of everyone.

        :param event: its name: letters, digits, `_`, `.`, `:` and `-`.
        :param data: anything that JSON can express.
        :raises InvalidRequest: the name is invalid, or the data too large or not JSON.
        """
        if not EVENT_NAME.fullmatch(event) or event in RESERVED:
            raise InvalidRequest(
                f"{event!r} is not a valid event name. Use letters, digits, '_', '.', ':' and '-', "
                f"but none of {', '.join(sorted(RESERVED))}.",
                param="event",
            )
        try:
            encoded = one_line(encode_json(data))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequest(
                f"The data can't be sent as JSON: {error}.", param="data"
            ) from None
        most = self._settings.push_max_bytes
        if len(encoded) > most:
            raise InvalidRequest(
                f"The data has {len(encoded)} bytes; {most} are allowed.", param="data"
            )
        self._post(PendingMessage(to or self.everyone, event, encoded))

    def tell_workers(self, order: str, owner: str) -> None:
        """Publish `DISCONNECT` or `FORGET` for all workers."""
        if order == FORGET:
            with self._lock:
                self._drop(owner)
        self._post(PendingMessage(owner, order, b"{}"))

    def watch(self) -> None:
        """A stream was opened; from now on, orders for this worker are read."""
        if not self._reads:
            self._background.wake()

    def drain(self) -> None:
        """Tell all pages to reconnect elsewhere."""
        self.draining = True
        self._ring()

    def wake(self) -> None:
        """Read now: something was published."""
        if self.readers:
            self._background.wake()

    def enter(self, reader: Wakeable) -> None:
        """Wake this reader for new publications."""
        self.readers.add(reader)
        self._background.wake()

    def after(self, number: int) -> list[Kept]:
        """The kept publications after a number."""
        oldest_allowed = time.time() - self._settings.push_age
        with self._lock:
            while self._kept and self._kept[0].published_at < oldest_allowed:
                self._kept.popleft()
            # Numbers have no gaps, so this is an index from the end and needs no search.
            newer = min(max((self._last or 0) - number, 0), len(self._kept))
            return [self._kept[index] for index in range(-newer, 0)]

    def position(self, cursor: str | None) -> int:
        """The number that a client's cursor stands for.

        Without one, a page starts with the next publication. A cursor that never existed, or that
        an emptied event log has not reached again, counts as before everything.
        """
        known = cursor and cursor.isascii() and cursor.isdecimal() and len(cursor) < 19
        number = int(cursor) if cursor and known else 0
        # The page may have seen a publication on another worker that this one has not read yet.
        if not self.readers or number > (self._last or 0):
            try:
                while self._read():
                    pass
            except StorageUnavailable as error:
                logger.warning("push channel: %s", error)
        last = self._last or 0
        if not cursor:
            return last
        return number if number <= last else 0

    def _poll(self) -> float | None:
        while self._read():
            pass
        # In this order: a stream that opens in between either is seen or wakes this.
        self._reads = False
        if self.readers:
            self._reads = True
            return self._settings.poll_interval
        self._reads = self.has_streams()
        return SLOW_POLL if self._reads else None

    def _read(self) -> bool:
        """Read what is new. Returns whether there may be more."""
        if self._last is None:
            self._last = max(self._log.last_published() - self._settings.push_kept, 0)
        new = self._log.published(self._last, MAX_READ_MESSAGES)
        orders: list[PublishedMessage] = []
        with self._lock:
            for each in new:
                if each.number <= self._last:
                    continue  # A concurrent call has read it.
                if each.number != self._last + 1:
                    self._kept.clear()
                frame = b""
                if each.event in (DISCONNECT, FORGET):
                    self._obey(each)
                    orders.append(each)
                else:
                    frame = sse.encode_named(each.event, each.data, str(each.number))
                self._kept.append(Kept(each.number, each.recipient, each.published_at, frame))
                self._last = each.number
        for each in orders:
            self.told(each.event, each.recipient or "", each.published_at)
        if new:
            self._ring()
        return len(new) == MAX_READ_MESSAGES

    def _obey(self, order: PublishedMessage) -> None:
        """Keep no publication for an owner that is forgotten; the numbers stay without gaps."""
        if order.event == FORGET and order.recipient:
            self._drop(order.recipient)

    def _drop(self, owner: str) -> None:
        for index, each in enumerate(self._kept):
            if each.to == owner:
                self._kept[index] = each._replace(frame=b"")

    def _ring(self) -> None:
        for reader in tuple(self.readers):
            reader.wake()


class PushReader:
    """One page's view of the channel; a `Feed`."""

    over = more = revoked = False

    def __init__(self, channel: PushChannel, owner: str, cursor: str | None) -> None:
        self._channel = channel
        self._owner = owner
        self._number = channel.position(cursor)

    def draining(self) -> bool:
        return self._channel.draining

    def enter(self, waker: Wakeable) -> None:
        self._channel.enter(waker)

    def exit(self, waker: Wakeable) -> None:
        self._channel.readers.discard(waker)

    def read(self) -> bytes:
        """The new frames for this owner."""
        news = self._channel.after(self._number)
        if news:
            self._number = news[-1].number
        addressees = (self._channel.everyone, self._owner)
        return b"".join(each.frame for each in news if each.to in addressees)
