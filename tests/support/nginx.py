"""A real nginx, as the deployment page sets it up."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documentation import blocks
from tests.support.gunicorn import ROOT, Gunicorn

# Debian keeps it where only root's PATH looks.
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextlib.contextmanager
def nginx(server: Gunicorn, folder: Path, changes: dict[str, str] | None = None) -> Iterator[str]:
    """The deployment page's nginx in front of a server, some lines changed; its address."""
    if NGINX is None:
        missing = "There is no nginx; install it (Debian: apt-get install nginx)."
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    [block] = blocks(ROOT / "docs/deployment.md", "nginx")
    usual = [("127.0.0.1:8000", f"127.0.0.1:{server.port}"), ("listen 80;", "{listen}")]
    for said, meant in usual + list((changes or {}).items()):
        assert block.count(said) == 1
        block = block.replace(said, meant)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        (folder / "nginx.conf").write_text(
            configuration(block.replace("{listen}", f"listen 127.0.0.1:{port};"), folder)
        )
        # It takes an open socket over, as at its own upgrades: nobody else can take the port.
        process = subprocess.Popen(
            [NGINX, "-p", folder, "-e", "stderr", "-c", "nginx.conf"],
            env={"NGINX": f"{listener.fileno()};"},
            pass_fds=[listener.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        _, log = process.communicate(timeout=20)
        complaints = re.findall(r"^.*\[(?:error|crit|alert|emerg)\].*$", log, re.M)
        assert complaints == []


def configuration(block: str, folder: Path) -> str:
    """A whole configuration around the deployment page's part of one."""
    user = "user root;" if os.geteuid() == 0 else ""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    return f"""
        {user}
        daemon off;
        worker_processes 1;
        pid {folder}/nginx.pid;
        error_log stderr notice;
        events {{ worker_connections 1024; }}
        http {{
            access_log off;
            {folders}
            {block}
        }}
    """
