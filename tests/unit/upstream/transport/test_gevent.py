"""The promises of both transports also hold for greenlets, where gevent has patched the sockets."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
PATCHED = """
from gevent import monkey
monkey.patch_all()
import pytest
raise SystemExit(pytest.main())
"""


@pytest.mark.processes
@pytest.mark.parametrize("name", ["cancellation", "http", "fast"])
def test_the_same_tests_pass_in_a_patched_process(name):
    """The child is one thread: whatever blocked it would hang the server in it, and the test."""
    arguments = ["-q", "-p", "no:xdist", "--timeout=60", str(HERE / f"test_{name}.py")]
    done = subprocess.run(
        [sys.executable, "-c", PATCHED, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MonkeyPatchWarning" not in done.stderr
