"""Readers that come back by cursor, as an `EventSource` does, until they have seen the end."""

import http.client
import itertools
import random
import threading
import time
from collections.abc import Sequence
from typing import Any

from tests.support.client import Client, Sent, Stream, joined, parse


class Resumer:
    """Follows one answer over any number of connections, and servers in turn.

    :param clients: one visitor, at each of the servers.
    :param answer: the 202's body, or an answer's id.
    :param cut_after: events after which it breaks the connection itself, from 1 to this; 0: never.
    """

    def __init__(
        self, clients: Sequence[Client], answer: dict[str, Any] | str, cut_after: int = 0
    ) -> None:
        self.id = answer if isinstance(answer, str) else answer["answer"]["id"]
        self.events: list[Sent] = []
        self.statuses: list[int] = []
        self.connections = 0
        self.faults: list[Exception] = []
        """How connections have failed, other than by our own cut."""
        self.ended_at = 0.0
        self.error: BaseException | None = None
        self.clients = clients
        self._clients = itertools.cycle(clients)
        self._cut_after = cut_after
        self._random = random.Random(self.id)
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def text(self) -> str:
        return joined(self.events)

    @property
    def end(self) -> Sent | None:
        last = self.events[-1] if self.events else None
        return last if last and last.is_end else None

    def finish(self, timeout: float = 60.0) -> Sent:
        """Wait for the end of the answer; the last event."""
        self._thread.join(timeout)
        assert not self._thread.is_alive(), f"no end; {self.statuses} {self.events[-3:]}"
        if self.error:
            raise self.error
        assert self.end, self.statuses
        return self.end

    def close(self) -> None:
        """Come back no more."""
        self._gone.set()

    def _run(self) -> None:
        try:
            while not self.end and not self._gone.is_set():
                pause = self._follow(next(self._clients))
                if not self.end:
                    self._gone.wait(pause)
            self.ended_at = time.monotonic()
        except BaseException as error:
            self.error = error

    def _follow(self, client: Client) -> float:
        """One connection; seconds to the next one."""
        headers = {"Last_Event_ID": self.events[-1].id} if self.events else {}
        self.connections += 1
        try:
            stream = client.stream(f"/api/answers/{self.id}/events", **headers)
            self.statuses.append(stream.status)
            assert stream.status in (200, 503), stream.response.read()
            if stream.status != 200:
                stream.close()
                return 0.2
            return self._read(stream)
        except (OSError, http.client.HTTPException) as fault:
            self.faults.append(fault)
            return 0.05

    def _read(self, stream: Stream) -> float:
        most = self._random.randint(1, self._cut_after) if self._cut_after else 0
        rest, pause, seen = b"", 0.01, 0
        try:
            for block in stream.blocks():
                *whole, rest = (rest + block).split(b"\n\n")
                for each in whole:
                    if event := parse(each):
                        self.events.append(event)
                        seen += 1
                    if most and seen >= most:
                        return pause
        finally:
            stream.close()
        return pause

    def assert_exact(self, text: str) -> None:
        """The text is this, and no event number came twice or was left out."""
        assert self.text == text, (self.end, self.statuses, self.text)
        if not any(event.event == "snapshot" for event in self.events):
            numbers = [int(event.id) for event in self.events]
            assert numbers == sorted(set(numbers)), numbers
