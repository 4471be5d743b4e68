"""Real proxies, as the files in `deploy` set them up."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from tests.support.gunicorn import ROOT, Gunicorn
from tests.support.upstream import poll

DEPLOY = ROOT / "deploy"
IS_ROOT = os.geteuid() == 0
APACHE_MODULES = Path("/usr/lib/apache2/modules")
CADDY = ("--adapter", "caddyfile", "--config")
APACHE_LOADS = [
    "mpm_event",
    "alias",
    "authn_core",
    "authz_core",
    "env",
    "headers",
    "http2",
    "proxy",
    "proxy_http",
    "reqtimeout",
    "setenvif",
    "ssl",
]


class Place(NamedTuple):
    """Where a proxy of a test works: a folder and a port of its own."""

    folder: Path
    listener: socket.socket
    is_tls: bool

    @property
    def port(self) -> int:
        port: int = self.listener.getsockname()[1]
        return port


class Kind(NamedTuple):
    """One of the proxies, and how to run its file here."""

    file: str
    program: str
    adapt: Callable[[str, Place], str]
    """The file with this place's ports and folders."""
    check: Callable[[str, Path], list[str]]
    """The command that checks a file, from the program and the file."""
    run: Callable[[str, Path], list[str]]
    takes_socket: bool = True
    """Whether it takes an open socket over, so that nobody else can take the port."""


def replaced(text: str, changes: dict[str, str]) -> str:
    """A text with some words changed, each of which it must have once."""
    for said, meant in changes.items():
        assert text.count(said) == 1, said
        text = text.replace(said, meant)
    return text


def _nginx(text: str, place: Place) -> str:
    text = re.sub(r"(?m)^ *listen \[::\].*\n", "", text)
    tls = " ssl http2" if place.is_tls else ""
    text = replaced(
        text,
        {
            "listen 80;": f"listen unix:{place.folder}/plain.sock;",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{place.port}{tls};",
        },
    )
    user = "user root;" if IS_ROOT else ""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "\n".join(f"{kind}_temp_path {place.folder}/{kind};" for kind in kinds)
    return f"""
        {user}
        daemon off;
        worker_processes 1;
        pid {place.folder}/nginx.pid;
        error_log stderr notice;
        events {{ worker_connections 1024; }}
        http {{
            access_log off;
            {folders}
            {text}
        }}
    """


def _haproxy(text: str, place: Place) -> str:
    if not IS_ROOT:
        text = re.sub(r"(?m)^    (user|group|chroot) .*\n", "", text)
    return replaced(
        text,
        {
            "bind :80": f"bind unix@{place.folder}/plain.sock",
            "bind :443": f"bind 127.0.0.1:{place.port}",
            "log /dev/log local0": "log stderr format raw local0",
        },
    )


def _apache(text: str, place: Place) -> str:
    text = replaced(text, {"<VirtualHost *:443>": f"<VirtualHost *:{place.port}>"})
    loads = "\n".join(
        f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so" for name in APACHE_LOADS
    )
    user = "User www-data\nGroup www-data" if IS_ROOT else ""
    return f"""
{loads}
{user}
ServerName localhost
ServerRoot {place.folder}
DefaultRuntimeDir {place.folder}
PidFile {place.folder}/apache.pid
ErrorLog /dev/stderr
Listen 127.0.0.1:{place.port}
{text}"""


def _caddy(text: str, place: Place) -> str:
    site = (
        f"https://127.0.0.1:{place.port} {{\n\ttls {place.folder}/chat.pem {place.folder}/chat.key"
    )
    options = f"""
{{
	admin off
	auto_https disable_redirects
	default_sni 127.0.0.1
	storage file_system {place.folder}
}}
"""
    return options + replaced(text, {"chat.example {": site})


KINDS = {
    "nginx": Kind(
        "nginx.conf",
        "nginx",
        _nginx,
        lambda program, file: [
            program,
            "-t",
            "-p",
            str(file.parent),
            "-e",
            "stderr",
            "-c",
            str(file),
        ],
        lambda program, file: [program, "-p", str(file.parent), "-e", "stderr", "-c", str(file)],
    ),
    "haproxy": Kind(
        "haproxy.cfg",
        "haproxy",
        _haproxy,
        lambda program, file: [program, "-c", "-q", "-f", str(file)],
        lambda program, file: [program, "-db", "-f", str(file)],
        takes_socket=False,
    ),
    "apache": Kind(
        "apache.conf",
        "apache2",
        _apache,
        lambda program, file: [program, "-t", "-f", str(file)],
        lambda program, file: [program, "-D", "FOREGROUND", "-f", str(file)],
        takes_socket=False,
    ),
    "caddy": Kind(
        "Caddyfile",
        "caddy",
        _caddy,
        lambda program, file: [
            program,
            "validate",
            "--adapter",
            "caddyfile",
            "--config",
            str(file),
        ],
        lambda program, file: [program, "run", "--adapter", "caddyfile", "--config", str(file)],
        takes_socket=False,
    ),
}


def program_of(kind: Kind) -> str:
    """The path of a proxy's program; the test is skipped without it, or fails in CI."""
    # Debian keeps some where only root's PATH looks.
    program = shutil.which(kind.program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        missing = f"There is no {kind.program} (Debian: apt-get install {kind.program})."
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return program


def write_file(
    kind: Kind, place: Place, server: Gunicorn | None = None, changes: dict[str, str] | None = None
) -> Path:
    """A proxy's file for this place, some words changed, with a certificate beside it."""
    text = replaced((DEPLOY / kind.file).read_text("utf-8"), changes or {})
    if server:
        text = replaced(text, {"127.0.0.1:8000": f"127.0.0.1:{server.port}"})
    text = kind.adapt(text, place)
    certificate = trustme.CA().issue_cert("127.0.0.1", "chat.example")
    certificate.private_key_and_cert_chain_pem.write_to_path(place.folder / "chat.pem")
    certificate.private_key_pem.write_to_path(place.folder / "chat.key")
    for ours in ("/etc/haproxy/chat.pem", "/etc/ssl/chat.pem", "/etc/ssl/private/chat.key"):
        text = text.replace(ours, str(place.folder / Path(ours).name))
    file = place.folder / kind.file
    file.write_text(text, "utf-8")
    return file


@contextlib.contextmanager
def proxy(
    name: str,
    server: Gunicorn,
    folder: Path,
    changes: dict[str, str] | None = None,
    *,
    is_tls: bool = True,
) -> Iterator[str]:
    """A documented proxy in front of a server, some words of its file changed; its address.

    :param is_tls: False, for nginx alone: it listens without TLS.
    """
    kind = KINDS[name]
    program = program_of(kind)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = Place(folder, listener, is_tls)
        port, handed = place.port, listener.fileno()
        file = write_file(kind, place, server, changes)
        if not kind.takes_socket:
            listener.close()
        process = subprocess.Popen(
            kind.run(program, file),
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "NGINX": f"{handed};"},
            pass_fds=[handed] if kind.takes_socket else [],
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        poll(lambda: _listens(port) or process.poll() is not None)
        assert process.poll() is None
        yield f"{'https' if is_tls else 'http'}://127.0.0.1:{port}"
    finally:
        process.terminate()
        _, log = process.communicate(timeout=20)
        complaints = re.findall(r"^.*\[(?:error|crit|alert|emerg|ALERT|WARNING)\].*$", log, re.M)
        assert complaints == []


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
