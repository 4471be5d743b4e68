"""Processes under test: started on one core, read through ``/proc``, and ended for certain.

CPU time is the scheduler's nanoseconds of every thread, memory is PSS.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class NotMeasuredError(Exception):
    """A server does not start, or does not do what it is measured for; the others can go on."""


def below(root: int, has_master: bool) -> list[int]:
    """A started process and all below it, or only these where the first is a master."""
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                todo += map(int, file.read_text().split())
    return found[1:] if has_master else found


def cpu_ns(pids: list[int]) -> tuple[int, int]:
    """Time on a CPU of all threads that live, and the time that main threads waited for one."""
    ran = waited = 0
    for pid in pids:
        for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                fields = file.read_text().split()
                ran += int(fields[0])
                if file.parent.name == str(pid):
                    waited += int(fields[1])
    return ran, waited


def memory(pids: list[int]) -> int:
    """Bytes resident (PSS: what several processes map is shared out among them)."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


@contextlib.contextmanager
def started(command: list[str], core: int, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process on one core; it and what it has started are gone afterwards."""
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *command], text=True, start_new_session=True, **options
    )
    # The kernel weighs sessions against each other, and a session's nice value is its own.
    with contextlib.suppress(OSError):
        Path(f"/proc/{process.pid}/autogroup").write_text(str(os.getpriority(os.PRIO_PROCESS, 0)))
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_it_listens(port: int, process: subprocess.Popen[str], log: Path) -> None:
    """Polls the port for at most 30 s.

    :raises NotMeasuredError: with the end of the server's output, when it does not come up
    """
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise NotMeasuredError(f"The server did not start:\n{log.read_text()[-2000:]}")
