"""A real Redis for tests, which ends with them."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.upstream import poll


class RedisServer:
    """A server on a free port of this machine, its files in `folder`.

    :param options: more of redis-server's own options.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        with contextlib.closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Also again, on the same port. As a rule it has kept nothing."""
        command = [_program(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        with open(self._folder / "redis.log", "ab") as log:
            self.process = subprocess.Popen(
                [*command, "--dir", str(self._folder), *self._options], stdout=log, stderr=log
            )
        poll(self._answers, 20)

    def command(self, *words: str) -> bytes:
        """What it answers, as it comes over the wire; of long answers the beginning."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall((" ".join(words) + "\r\n").encode())
            return connection.recv(65536)

    def freeze(self) -> None:
        """It stands still: the kernel takes what it is sent, and nobody answers."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Every connection is cut, new ones are refused, and nothing is saved."""
        self.process.kill()
        self.process.wait(10)

    def _answers(self) -> bool:
        log = self._folder / "redis.log"
        assert self.process.poll() is None, log.read_text(errors="replace")
        try:
            return self.command("PING").startswith(b"+PONG")
        except OSError:
            return False


def _program() -> str:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if not found:
        if os.environ.get("CI"):
            pytest.fail("redis-server is missing")
        pytest.skip("Redis is not installed")
    return found


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for all tests; they use it by `redis_server` or one of their own."""
    _program()
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> Iterator[RedisServer]:
    """An empty server, which a test must not stop."""
    assert shared_redis.command("FLUSHALL").startswith(b"+OK")
    yield shared_redis
    assert shared_redis.command("FLUSHALL").startswith(b"+OK")


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may stop and freeze; what it had is gone when it starts again."""
    _program()
    server = RedisServer(tmp_path)
    yield server
    server.stop()
