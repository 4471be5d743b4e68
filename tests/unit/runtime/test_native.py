"""Native threads under gevent log nothing and share no lock with greenlets: they may never wake."""

import contextlib
import re
import socket
import subprocess
import sys

import pytest

from tests.support.gunicorn import ROOT

SUITES = (
    "tests/eventlog/test_eventlog.py",
    "tests/eventlog/test_eventlog_faults.py",
    "tests/unit/conversations/test_store.py",
)
UNDER_LOAD = """
from gevent import monkey; monkey.patch_all()
import logging, os, sys, time
import gevent
from chatapp.database.database import Database
from chatapp.errors import StorageUnavailable
class Slow(logging.StreamHandler):
    def emit(self, record):
        monkey.get_original("time", "sleep")(0.001)
        super().emit(record)
logging.basicConfig(level=logging.INFO, handlers=[Slow(sys.stderr)])
databases = [Database(sys.argv[1], 4) for _ in range(4)]
end = time.monotonic() + 3
def ask(database):
    while time.monotonic() < end:
        try:
            database.run(lambda connection: None)
        except StorageUnavailable:
            gevent.sleep(0)
callers = [gevent.spawn(ask, databases[number % 4]) for number in range(16)]
gevent.joinall(callers, timeout=30)
print(sum(not each.ready() for each in callers), flush=True)
os._exit(0)
"""


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_no_operation_of_the_storage_touches_what_gevent_has_patched(kind: str) -> None:
    """The suites of the storage again, patched, with a spy on gevent's locks and on logging."""
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "gevent.monkey", "--module", "pytest"),
            *("-p", "tests.support.native_threads", "-p", "no:cacheprovider", "-n", "0", "-q"),
            # Those that wait for their own threads inside a unit of work, or for other processes.
            *("-k", f"{kind} and not other_greenlets"),
            *SUITES,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=360,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-8000:]
    assert int(re.search(r"done in native threads: (\d+)", ran.stdout)[1]) > 100


def test_while_postgresql_refuses_connections_under_load_nobody_is_stuck() -> None:
    with contextlib.closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))  # It does not listen: connections are refused.
        url = f"postgresql://nobody@127.0.0.1:{unused.getsockname()[1]}/none"
        ran = subprocess.run(
            [sys.executable, "-c", UNDER_LOAD, url],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (ran.returncode, ran.stdout) == (0, "0\n"), ran.stderr[-4000:]
    assert "the database does not do its work" in ran.stderr
