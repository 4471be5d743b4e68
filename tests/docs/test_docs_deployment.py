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
from typing import Any

import pytest
import yaml

from chatapp import Settings, create_app
from chatapp.gunicorn_hooks import REUSE_SECONDS
from tests.support.client import Client
from tests.support.gunicorn import ROOT, Gunicorn

PATH = ROOT / "docs/deployment.md"
PAGE = PATH.read_text("utf-8")
DEPLOY = ROOT / "deploy"
NGINX = (DEPLOY / "nginx.conf").read_text("utf-8")
COMPOSE = (DEPLOY / "compose.yaml").read_text("utf-8")
KUBERNETES = (DEPLOY / "kubernetes.yaml").read_text("utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
CONFIGURATION = (ROOT / "gunicorn.conf.py").read_text("utf-8")
SAVING = 10
"""Seconds that a worker may take to save after its grace time, while a storage stands still."""


def unit() -> configparser.SectionProxy:
    """The service of the systemd unit."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string((DEPLOY / "chat.service").read_text("utf-8"))
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
    command: list[str] = json.loads(re.findall(r"(?m)^CMD (\[.*\])$", DOCKERFILE)[0])
    return command


def test_whoever_kills_waits_until_answers_are_saved() -> None:
    least = gunicorns("graceful_timeout") + SAVING
    before = number(r"command: \[sleep, \"(\d+)\"\]", KUBERNETES)
    assert float(unit()["TimeoutStopSec"]) >= least
    assert number(r"stop_grace_period: (\d+)s", COMPOSE) >= least
    assert {float(each) for each in re.findall(r"--stop-timeout (\d+) --ulimit", PAGE)} == {
        least + 5
    }
    assert number(r"terminationGracePeriodSeconds: (\d+)", KUBERNETES) >= before + least


def test_a_worker_that_hangs_is_replaced_before_its_pod_or_container_is() -> None:
    probe = re.search(
        r"livenessProbe:.*?periodSeconds: (\d+).*?failureThreshold: (\d+)", KUBERNETES, re.S
    )
    check = re.search(r"--interval=(\d+)s .*--retries=(\d+)", DOCKERFILE)
    assert probe
    assert check
    assert int(probe[1]) * int(probe[2]) > gunicorns("timeout")
    assert int(check[1]) * int(check[2]) >= gunicorns("timeout") > gunicorns("graceful_timeout")


def test_a_proxy_cuts_no_silence_and_no_body_and_closes_first() -> None:
    settings = Settings()
    for source, pattern in (
        (NGINX, r"proxy_read_timeout (\d+)s"),
        (KUBERNETES, r'proxy-read-timeout: "(\d+)"'),
    ):
        assert number(pattern, source) > 2 * settings.heartbeat
    for source, pattern in (
        (NGINX, r"client_max_body_size (\d+)m"),
        (KUBERNETES, r"proxy-body-size: (\d+)m"),
    ):
        assert number(pattern, source) * 2**20 > settings.body_max_bytes
    assert number(r"keepalive_timeout (\d+)s", NGINX) < min(gunicorns("keepalive"), REUSE_SECONDS)


def test_files_may_be_open_for_two_ends_of_each_connection() -> None:
    least = 2 * gunicorns("worker_connections")
    assert float(unit()["LimitNOFILE"]) > least
    limits = re.findall(r"nofile[=:] ?(\d+)", PAGE + COMPOSE)
    assert len(limits) == 2
    assert all(int(limit) > least for limit in limits)


def test_what_is_probed_is_served_where_it_is_probed() -> None:
    served = {rule.rule for rule in create_app().url_map.iter_rules()}
    probed = set(re.findall(r"httpGet: {path: (/\w+)", KUBERNETES))
    assert probed == {"/healthz", "/readyz"}
    assert probed <= served
    [port] = set(re.findall(r"containerPort: (\d+)", KUBERNETES))
    assert f"0.0.0.0:{port}" in start_command()
    assert f"127.0.0.1:{port}/healthz" in DOCKERFILE


def test_what_the_image_is_made_of_starts(tmp_path: Path) -> None:
    lines = re.findall(r"(?m)^COPY (?!--from).*$", DOCKERFILE)
    copied = [shlex.split(line)[1:] for line in lines]
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
    assert unit()["ExecStart"].endswith("/bin/gunicorn -k gevent -b 127.0.0.1:8000 wsgi:app")
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


def yaml_of(name: str) -> list[Any]:
    """The documents of a file."""
    return list(yaml.safe_load_all((DEPLOY / name).read_text("utf-8")))


def of_kind(kind: str) -> dict[str, Any]:
    """The one object of this kind in Kubernetes' file."""
    [found] = [each["spec"] for each in yaml_of("kubernetes.yaml") if each["kind"] == kind]
    spec: dict[str, Any] = found
    return spec


def test_pods_have_no_right_that_they_do_not_need() -> None:
    pod = of_kind("Deployment")["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == int(re.findall(r"(?m)^USER (\d+)$", DOCKERFILE)[0])
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["initContainers"] + pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    assert {"name": "CHATAPP_TRUSTED_PROXIES", "value": "1"} in pod["containers"][0]["env"]
    assert of_kind("NetworkPolicy")["podSelector"] == of_kind("Deployment")["selector"]


def test_containers_have_no_right_that_they_do_not_need() -> None:
    [compose] = yaml_of("compose.yaml")
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "cap_add" not in service
        assert all(each.startswith("127.0.0.1:") for each in service.get("ports", [])), name
    assert compose["networks"]["inside"] == {"internal": True}
    for name in ("database", "cache"):
        assert compose["services"][name]["networks"] == ["inside"]
        assert compose["services"][name]["user"] not in ("root", "0")
    assert compose["services"]["chat"]["environment"]["CHATAPP_TRUSTED_PROXIES"] == "1"
    for options in ("--read-only", "--cap-drop ALL", "-p 127.0.0.1:8000:8000"):
        assert options in PAGE


def outside() -> set[str]:
    """The application's routes, but those for operators."""
    rules = {rule.rule for rule in create_app().url_map.iter_rules()}
    return rules - {"/metrics", "/readyz"}


def test_the_ingress_passes_the_chats_own_routes_on_and_no_others() -> None:
    [rule] = of_kind("Ingress")["rules"]
    paths = rule["http"]["paths"]
    exact = {each["path"] for each in paths if each["pathType"] == "Exact"}
    below = tuple(f"{each['path']}/" for each in paths if each["pathType"] == "Prefix")
    assert len(paths) == len(exact) + len(below)
    assert {each for each in outside() if each not in exact and not each.startswith(below)} == set()
    assert not {"/metrics", "/readyz", "//"} & (exact | set(below))
    assert of_kind("Ingress")["tls"][0]["hosts"] == [rule["host"]]


def test_traefik_passes_the_chats_own_routes_on_and_no_others() -> None:
    [chat] = yaml_of("traefik/chat.yaml")
    [static] = yaml_of("traefik/traefik.yaml")
    router = chat["http"]["routers"]["chat"]
    exact = set(re.findall(r"\bPath\(`([^`]+)`\)", router["rule"]))
    below = tuple(re.findall(r"PathPrefix\(`([^`]+)`\)", router["rule"]))
    assert {each for each in outside() if each not in exact and not each.startswith(below)} == set()
    assert not {"/metrics", "/readyz", "/"} & set(below)
    assert set(router["middlewares"]) == set(chat["http"]["middlewares"])
    assert router["entryPoints"] == ["chat"]
    assert not any("forwardedHeaders" in each for each in static["entryPoints"].values())
    middlewares = chat["http"]["middlewares"]
    assert middlewares["headers"]["headers"]["stsSeconds"] >= 31_536_000
    assert all("buffering" not in each for each in middlewares.values())
    [server] = chat["http"]["services"]["chat"]["loadBalancer"]["servers"]
    assert server == {"url": "http://127.0.0.1:8000"}
    idle = chat["http"]["serversTransports"]["chat"]["forwardingTimeouts"]["idleConnTimeout"]
    assert number(r"^(\d+)s$", idle) < min(gunicorns("keepalive"), REUSE_SECONDS)


def systemd_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What systemd's own checker says of the unit; the test is skipped without it."""
    program = shutil.which("systemd-analyze")
    if program is None:
        missing = "There is no systemd-analyze (Debian: apt-get install systemd)."
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    command = [program, *arguments, str(DEPLOY / "chat.service")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_systemd_finds_the_unit_closed() -> None:
    checked = systemd_analyze("security", "--no-pager", "--offline=true", "--threshold=20")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    rated = number(r"Overall exposure level for chat\.service: ([\d.]+)", checked.stdout)
    assert f"rates it {rated} of 10" in PAGE


def test_systemd_knows_each_line_of_the_unit() -> None:
    said = systemd_analyze("verify", "--recursive-errors=no", "--man=no").stderr
    ours = [line for line in said.splitlines() if "chat.service" in line]
    # The repository is not in /srv/chat here.
    assert [line for line in ours if "is not executable" not in line] == []
