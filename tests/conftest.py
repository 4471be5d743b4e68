"""Fixtures: a scripted upstream, and gunicorn processes that end with the test."""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from chatapp.runtime.background import BackgroundTask
from tests.support.client import Client
from tests.support.embedded_app import MakeHost, host
from tests.support.gunicorn import Gunicorn
from tests.support.one_chat import OneChat
from tests.support.shared_server import Site
from tests.support.upstream import FakeUpstream

TESTS = Path(__file__).parent
# Fixtures that start a server.
SERVERS = frozenset({"postgres", "own_postgres", "shared_redis", "own_redis"})

pytest_plugins = (
    "tests.support.databases",
    "tests.support.redis_server",
    "tests.support.cluster",
    "tests.support.pages",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test has the marker of its folder, and `processes` where a fixture starts a server."""
    for item in items:
        item.add_marker(item.path.relative_to(TESTS).parts[0])
        if SERVERS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("processes")


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    """A fake upstream; `upstream.script` says what it does."""
    fake = FakeUpstream()
    yield fake
    fake.close()


@pytest.fixture
def make_host(tmp_path: Path) -> MakeHost:
    """Makes host applications, each with a folder of its own; arguments are their config."""
    return functools.partial(host, tmp_path)


@pytest.fixture
def start_chat(upstream: FakeUpstream, tmp_path: Path) -> Iterator[Callable[..., OneChat]]:
    """Starts a chat in this process in front of the fake upstream; arguments are its settings."""
    started: list[OneChat] = []

    def start(**options: Any) -> OneChat:
        started.append(OneChat(tmp_path, upstream, **options))
        return started[-1]

    yield start
    for chat in started:
        chat.close()


@pytest.fixture
def serve(upstream: FakeUpstream, tmp_path: Path) -> Iterator[Callable[..., Gunicorn]]:
    """Starts the application in front of the fake upstream; arguments are `Gunicorn`'s."""
    started: list[Gunicorn] = []

    def start(*args: str, **options: Any) -> Gunicorn:
        options.setdefault("upstream", upstream.url)
        server = Gunicorn(options.pop("upstream"), tmp_path / "instance", *args, **options)
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def client(serve: Callable[..., Gunicorn]) -> Client:
    """A visitor of an application with default options."""
    return Client(serve().url)


@pytest.fixture(scope="module")
def start_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Site]]:
    """Starts applications that the tests of a module share; arguments are `Gunicorn`'s."""
    with ExitStack() as started:

        def start(*args: str, **options: Any) -> Site:
            site = Site(tmp_path_factory.mktemp("instance"), *args, **options)
            started.callback(site.close)
            return site

        yield start


@pytest.fixture(scope="module", autouse=True)
def background_ends() -> Iterator[None]:
    """What an application in this process does beside its requests ends with a module's tests."""
    started: list[BackgroundTask] = []
    start = BackgroundTask._start

    def noted(background: BackgroundTask) -> None:
        started.append(background)
        start(background)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BackgroundTask, "_start", noted)
        yield
    for background in started:
        background.end(0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests have measured; nothing of it is asserted closely."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{report.nodeid}: {name} {value}")
