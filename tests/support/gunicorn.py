"""A real gunicorn with the application, as a user starts it."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.support.upstream import poll

ROOT = Path(__file__).parents[2]
ROOM = {"CHATAPP_MAX_RUNNING_PER_OWNER": "1000", "CHATAPP_MAX_STREAMS_PER_OWNER": "10000"}
"""A test's visitors are few, or come from one address, and do more than a person would."""
LISTENING = re.compile(r"Listening at: (?:unix:\S+,)?(http://127\.0\.0\.1:(\d+))")


class Gunicorn:
    """`gunicorn -k gevent wsgi:app` on a free port, its files in `instance`.

    :param upstream: the base URL that it asks; None: none is set.
    :param env: options for the application, by their variables' names.
    :param args: more of gunicorn's own options.
    :param python: the interpreter, and with it what is installed.
    :param folder: where it is started.

    `TEST_TRANSPORT` in the environment chooses the transport of all servers.
    """

    def __init__(
        self,
        upstream: str | None,
        instance: Path,
        *args: str,
        app: str = "wsgi:app",
        port: int = 0,
        python: str = sys.executable,
        folder: Path = ROOT,
        **env: str,
    ) -> None:
        self.instance = instance
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CHATAPP_", "OPENAI_", "AZURE_", "GUNICORN_", "WEB_"))
        }
        if upstream:
            clean |= {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": upstream}
            clean |= {"CHATAPP_MODEL": "fake-model"}
        if transport := os.environ.get("TEST_TRANSPORT"):
            clean["CHATAPP_TRANSPORT"] = transport
        clean |= {"CHATAPP_INSTANCE": str(instance), "PYTHONUNBUFFERED": "1", **ROOM}
        command = [python, "-m", "gunicorn", "-k", "gevent", app, *args]
        command += ["-b", f"127.0.0.1:{port}"]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=clean | env,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        self._port = port
        self.url, self.port = poll(self._address, 30)

    @property
    def log(self) -> str:
        return "".join(self.lines)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def workers(self) -> list[int]:
        """The process ids of the running workers."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        try:
            return [int(pid) for pid in children.read_text().split()]
        except OSError:
            return []

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = 60.0) -> int:
        """Wait until the master has ended; its exit code."""
        code = self.process.wait(timeout)
        self._reader.join(5)
        return code

    def stop(self) -> int:
        """TERM, and KILL to all when that does not help."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            return self.wait(45)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait(10)
            raise

    def kill(self) -> None:
        """KILL the master and all workers."""
        os.killpg(self.pid, signal.SIGKILL)
        self.wait(10)

    def _read_log(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(line)
        self.process.stderr.close()

    def _address(self) -> tuple[str, int] | None:
        assert self.process.poll() is None, self.log
        if self._port and "Listening at: " in self.log:  # With `--reuse-port` that is all it says.
            return f"http://127.0.0.1:{self._port}", self._port
        found = LISTENING.search(self.log)
        return (found[1], int(found[2])) if found else None
