"""The deployment page is true: its files fit to the server that they start, and to each other."""

import configparser
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from chatapp import Settings, create_app
from chatapp.gunicorn_hooks import REUSE_SECONDS
from tests.support.client import Client
from tests.support.documentation import blocks
from tests.support.gunicorn import ROOT, Gunicorn

PATH = ROOT / "docs/deployment.md"
PAGE = PATH.read_text("utf-8")
CONFIGURATION = (ROOT / "gunicorn.conf.py").read_text("utf-8")
SAVING = 10
"""Seconds that a worker may take to save after its grace time, while a storage stands still."""


def files(language: str) -> list[str]:
    """The fenced blocks of the page."""
    return blocks(PATH, language)


def unit() -> configparser.SectionProxy:
    """The service of the systemd unit."""
    [text] = files("ini")
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string(text)
    return parser["Service"]


def number(pattern: str, text: str) -> float:
    """The one number that a pattern finds."""
    [found] = re.findall(pattern, text)
    return float(found)


def gunicorns(name: str) -> float:
    """A number in gunicorn.conf.py."""
    return number(rf"(?m)^{name} = ([\d_]+)\b", CONFIGURATION)


def start_command() -> list[str]:
    """What the image starts."""
    [dockerfile] = files("dockerfile")
    command: list[str] = json.loads(re.findall(r"(?m)^CMD (\[.*\])$", dockerfile)[0])
    return command


def test_whoever_kills_waits_until_answers_are_saved() -> None:
    least = gunicorns("graceful_timeout") + SAVING
    compose, kubernetes = files("yaml")
    before = number(r"command: \[sleep, \"(\d+)\"\]", kubernetes)
    assert float(unit()["TimeoutStopSec"]) >= least
    assert number(r"stop_grace_period: (\d+)s", compose) >= least
    assert {float(each) for each in re.findall(r"--stop-timeout (\d+) --ulimit", PAGE)} == {
        least + 5
    }
    assert number(r"terminationGracePeriodSeconds: (\d+)", kubernetes) >= before + least


def test_a_worker_that_hangs_is_replaced_before_its_pod_or_container_is() -> None:
    _, kubernetes = files("yaml")
    [dockerfile] = files("dockerfile")
    probe = re.search(
        r"livenessProbe:.*?periodSeconds: (\d+).*?failureThreshold: (\d+)", kubernetes, re.S
    )
    check = re.search(r"--interval=(\d+)s .*--retries=(\d+)", dockerfile)
    assert probe
    assert check
    assert int(probe[1]) * int(probe[2]) > gunicorns("timeout")
    assert int(check[1]) * int(check[2]) >= gunicorns("timeout") > gunicorns("graceful_timeout")


def test_a_proxy_cuts_no_silence_and_no_body_and_closes_first() -> None:
    [nginx] = files("nginx")
    _, kubernetes = files("yaml")
    settings = Settings()
    for source, pattern in (
        (nginx, r"proxy_read_timeout (\d+)s"),
        (kubernetes, r'proxy-read-timeout: "(\d+)"'),
    ):
        assert number(pattern, source) > 2 * settings.heartbeat
    for source, pattern in (
        (nginx, r"client_max_body_size (\d+)m"),
        (kubernetes, r"proxy-body-size: (\d+)m"),
    ):
        assert number(pattern, source) * 2**20 > settings.body_max_bytes
    assert number(r"keepalive_timeout (\d+)s", nginx) < min(gunicorns("keepalive"), REUSE_SECONDS)


def test_files_may_be_open_for_two_ends_of_each_connection() -> None:
    least = 2 * gunicorns("worker_connections")
    assert float(unit()["LimitNOFILE"]) > least
    limits = re.findall(r"nofile[=:] ?(\d+)", PAGE)
    assert len(limits) == 2
    assert all(int(limit) > least for limit in limits)


def test_what_is_probed_is_served_where_it_is_probed() -> None:
    _, kubernetes = files("yaml")
    served = {rule.rule for rule in create_app().url_map.iter_rules()}
    probed = set(re.findall(r"path: (/\w+)", kubernetes))
    assert probed == {"/healthz", "/readyz"}
    assert probed <= served
    [port] = set(re.findall(r"containerPort: (\d+)", kubernetes))
    assert f"0.0.0.0:{port}" in start_command()
    assert f"127.0.0.1:{port}/healthz" in files("dockerfile")[0]


def test_what_the_image_is_made_of_starts(tmp_path: Path) -> None:
    [dockerfile] = files("dockerfile")
    copied = [shlex.split(line)[1:] for line in re.findall(r"(?m)^COPY .*$", dockerfile)]
    assert all((ROOT / source).exists() for *sources, _ in copied for source in sources)
    *beside, _ = copied[-1]
    for name in beside:
        shutil.copy(ROOT / name, tmp_path)
    ours = ("CHATAPP_", "OPENAI_", "GUNICORN_", "WEB_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environ |= {"PYTHONPATH": str(ROOT), "CHATAPP_INSTANCE": str(tmp_path)}
    command = [sys.executable, "-m", *start_command(), "--check-config"]
    checked = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_systemd_is_told_when_the_server_listens(
    serve: Callable[..., Gunicorn], tmp_path: Path
) -> None:
    assert unit()["Type"] == "notify"
    assert unit()["ExecStart"].endswith("/bin/gunicorn -k gevent wsgi:app")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        server = serve(NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert b"READY=1" in systemd.recv(4096)
    assert Client(server.url).get("/healthz").status == 200


def test_behind_a_trusted_proxy_the_cookie_is_secure(serve: Callable[..., Gunicorn]) -> None:
    assert "CHATAPP_TRUSTED_PROXIES=1" in unit()["Environment"]
    for proxies, secure in (("0", False), ("1", True)):
        # gunicorn itself believes what comes from this machine; a proxy is rarely there.
        server = serve("--forwarded-allow-ips", "192.0.2.1", CHATAPP_TRUSTED_PROXIES=proxies)
        page = Client(server.url).get("/", X_Forwarded_Proto="https")
        assert ("Secure" in page.headers["Set-Cookie"]) is secure
