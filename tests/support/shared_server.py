"""An application in front of a fake upstream of its own, to be shared by the tests of a module."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.client import Client
from tests.support.gunicorn import Gunicorn
from tests.support.upstream import FakeUpstream, Script, poll


class Site:
    """Both live until `close`. Tests tell their questions apart by the text that they ask.

    :param url: the upstream's, where it is not the fake one.
    """

    def __init__(self, instance: Path, *args: str, url: str | None = None, **env: str) -> None:
        self.upstream = FakeUpstream()
        self.server = Gunicorn(url or self.upstream.url, instance, *args, **env)
        self.url = self.server.url

    def close(self) -> None:
        """Both end. Nothing that any test has done may have left a traceback in the log."""
        self.upstream.close()  # First: answers that still run would be waited for.
        self.server.stop()
        assert "Traceback" not in self.server.log, self.server.log

    def visitor(self, timeout: float = 30.0) -> Client:
        """Somebody who has been at the page, and so has a cookie."""
        client = Client(self.url, timeout)
        assert client.get("/api/conversations").status == 200
        client.get("/")
        return client

    def begin(self, script: Script, message: str, **fields: Any) -> tuple[Client, dict[str, Any]]:
        """A new visitor who asks; the body of the 202."""
        self.upstream.script = script
        visitor = self.visitor()
        return visitor, visitor.ask(message, **fields)

    def metric(self, name: str) -> int:
        """A gauge's value."""
        text = Client(self.url).get("/metrics").body.decode()
        found = re.search(rf"^chatapp_{name} (\d+)$", text, re.MULTILINE)
        assert found, text
        return int(found[1])

    def wait_for_readers(self, count: int, timeout: float = 10.0) -> None:
        poll(lambda: self.metric("readers") == count, timeout)

    @property
    def worker(self) -> int:
        """The process id of the only worker."""
        workers: list[int] = poll(lambda: self.server.workers)
        return workers[0]

    def open_files(self) -> int:
        """How many descriptors the worker has."""
        return len(list(Path(f"/proc/{self.worker}/fd").iterdir()))


def ended(client: Client, answer: dict[str, Any]) -> Callable[[], dict[str, Any] | None]:
    """For `poll`: the snapshot of an answer that is over."""
    path = f"/api/answers/{answer['answer']['id']}"

    def look() -> dict[str, Any] | None:
        snapshot: dict[str, Any] = client.get(path).json
        return snapshot if snapshot["status"] not in ("pending", "streaming") else None

    return look
