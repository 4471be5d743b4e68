"""The servers under test: how each is started, which of its processes serve, and its versions."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
PEERS = BENCH / "peers"
BUILD = BENCH / "build"
MODEL = "bench"
KEY = "x"


@dataclass(frozen=True)
class Place:
    """Where a server listens and what lies behind it; ``folder`` is its own and empty."""

    port: int
    upstream: int
    folder: Path


@dataclass(frozen=True)
class Peer:
    """One server: ``prepare`` gives its command; ``missing`` says why it can't run, or nothing."""

    name: str
    title: str
    prepare: Callable[[Place], list[str]]
    missing: Callable[[], str | None]
    versions: Callable[[], str]
    cwd: Path = PEERS
    has_master: bool = False
    extra_body: dict[str, object] = field(default_factory=dict)

    def environment(self, place: Place) -> dict[str, str]:
        """The variables every server is started with, beside the caller's."""
        return {
            **os.environ,
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": f"http://127.0.0.1:{place.upstream}/v1",
            "BENCH_MODEL": MODEL,
            "PORT": str(place.port),
            "NODE_ENV": "production",
            "CHATAPP_MODEL": MODEL,
            "CHATAPP_MAX_RUNNING": "20000",
            "CHATAPP_MAX_RUNNING_PER_OWNER": "20000",  # All come from one address.
            "CHATAPP_SECRET": "a benchmark is no secret",
            # A server that was killed leaves answers, which the next one there would have to end.
            "CHATAPP_INSTANCE": str(place.folder),
        }

    def body(self, text: str) -> str:
        """The JSON of one question."""
        message = {"role": "user", "content": text}
        return json.dumps({"messages": [message], **self.extra_body})


def python() -> Path:
    """The interpreter of the benchmark's environment, or the one that runs this."""
    own = BUILD / "venv" / "bin" / "python"
    return own if own.exists() else Path(sys.executable)


def distributions(*names: str) -> str:
    """``name version`` of packages in the benchmark's environment."""
    path = next((BUILD / "venv").glob("lib/python*/site-packages"), None)
    found = metadata.distributions(path=[str(path)]) if path else metadata.distributions()
    versions = {each.name.lower(): each.version for each in found}
    return ", ".join(f"{name} {versions[name.lower()]}" for name in names)


def packages(*names: str) -> str:
    """``name version`` of packages in ``node_modules``, and Node's own."""
    told = [f"Node {output('node', '--version')}"]
    for name in names:
        file = BUILD / "node_modules" / name / "package.json"
        told.append(f"{name} {json.loads(file.read_text())['version']}")
    return ", ".join(told)


def output(*command: str) -> str:
    """What a command prints, standard error included."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def gunicorn(target: str) -> Callable[[Place], list[str]]:
    def prepare(place: Place) -> list[str]:
        bind = ["--bind", f"127.0.0.1:{place.port}", "--backlog", "4096"]
        size = ["--workers", "1", "--worker-connections", "20000", "--log-level", "warning"]
        return [str(python()), "-m", "gunicorn", "-k", "gevent", *bind, *size, target]

    return prepare


def uvicorn(target: str) -> Callable[[Place], list[str]]:
    def prepare(place: Place) -> list[str]:
        loop = ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        bind = ["--port", str(place.port), "--backlog", "4096", "--log-level", "warning"]
        return [str(python()), "-m", "uvicorn", *loop, *bind, target]

    return prepare


def node(file: str) -> Callable[[Place], list[str]]:
    """A module finds its packages beside itself, so it is run from a copy beside them."""

    def prepare(_: Place) -> list[str]:
        shutil.copy(PEERS / file, BUILD / file)
        return ["node", str(BUILD / file)]

    return prepare


def nginx(place: Place) -> list[str]:
    text = (PEERS / "nginx.conf").read_text()
    known = {"DIR": place.folder, "PORT": place.port, "UPSTREAM": place.upstream}
    for name, value in known.items():
        text = text.replace(f"@{name}@", str(value))
    conf = place.folder / "nginx.conf"
    conf.write_text(text)
    return [shutil.which("nginx") or "nginx", "-p", str(place.folder), "-c", str(conf)]


def needs(*parts: str) -> Callable[[], str | None]:
    """What is missing among commands and paths, or nothing."""

    def missing() -> str | None:
        for part in parts:
            if not (Path(part).exists() or shutil.which(part)):
                return f"{part} is missing; `bench/setup` tells more."
        return None

    return missing


VENV = str(BUILD / "venv")
PYTHON_STACK = ("flask", "gunicorn", "gevent")
ALL: dict[str, Peer] = {
    each.name: each
    for each in (
        Peer(
            "chatapp",
            "chatapp",
            gunicorn("wsgi:app"),
            needs(str(ROOT / "wsgi.py")),
            lambda: distributions(*PYTHON_STACK, "openai", "msgspec"),
            cwd=ROOT,
            has_master=True,
        ),
        Peer(
            "relay",
            "raw gevent relay",
            gunicorn("relay:app"),
            needs(VENV),
            lambda: distributions(*PYTHON_STACK),
            has_master=True,
        ),
        Peer(
            "nginx",
            "nginx",
            nginx,
            needs("nginx"),
            lambda: output("nginx", "-v").rpartition(" ")[2].replace("/", " "),
            has_master=True,
            extra_body={"model": MODEL, "stream": True},
        ),
        Peer(
            "recipe",
            "hand-written recipe",
            gunicorn("recipe:app"),
            needs(VENV),
            lambda: distributions(*PYTHON_STACK, "openai", "httpx2"),
            has_master=True,
        ),
        Peer(
            "fastapi",
            "FastAPI + sse-starlette + AsyncOpenAI",
            uvicorn("fastapi_sse:app"),
            needs(VENV),
            lambda: distributions("fastapi", "sse-starlette", "uvicorn", "uvloop", "openai"),
        ),
        Peer(
            "node-openai",
            "OpenAI SDK on Node",
            node("node_openai.mjs"),
            needs("node", str(BUILD / "node_modules" / "openai")),
            lambda: packages("openai"),
        ),
        Peer(
            "node-ai",
            "Vercel AI SDK on Node",
            node("node_ai.mjs"),
            needs("node", str(BUILD / "node_modules" / "ai")),
            lambda: packages("ai", "@ai-sdk/openai-compatible"),
        ),
    )
}
