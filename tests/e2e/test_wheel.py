"""What is published works where nothing of the source is: the page, the migration, an answer."""

import os
import re
import shutil
import subprocess
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.gunicorn import ROOT, Gunicorn
from tests.support.upstream import FakeUpstream

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "chatapp")
PRELOAD = re.compile(r'rel="modulepreload" href="([^"]+)"')
APPLICATION = """
from gevent import monkey
monkey.patch_all()
from chatapp import create_app
app = create_app()
"""
NOT_ALL = shutil.ignore_patterns("__pycache__")


def run(*command: str | Path, folder: Path, **env: str) -> str:
    """Run a command without this source on its path; what it said."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(each) for each in command],
        cwd=folder,
        env=kept | env,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, python: Path) -> Path:
    """Built of a copy: an old `build` beside the source would be packed, too."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=NOT_ALL)
        else:
            shutil.copy(ROOT / name, folder)
    build = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    run(python, "-c", build, folder=folder)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has all dependencies and lacks the package itself."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    packages = sysconfig.get_path("purelib", "venv", {"base": str(folder)})
    # The folder alone: what its own .pth files add to the path, such as this source, stays out.
    Path(packages, "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def empty_folder(tmp_path_factory: pytest.TempPathFactory, python: Path, wheel: Path) -> Path:
    """With the application alone in it; the wheel is installed."""
    folder = tmp_path_factory.mktemp("empty")
    options = ("--no-deps", "--no-index", "--ignore-installed", "--disable-pip-version-check")
    run(python, "-m", "pip", "install", "--quiet", *options, wheel, folder=folder)
    (folder / "host.py").write_text(APPLICATION)
    where = run(python, "-c", "import chatapp; print(chatapp.__file__)", folder=folder)
    assert Path(where.strip()).is_relative_to(python.parents[1])
    return folder


def test_every_file_of_the_package_is_in_it(wheel: Path) -> None:
    there = {path.relative_to(ROOT) for path in (ROOT / "chatapp").rglob("*") if path.is_file()}
    expected = {str(path) for path in there if "__pycache__" not in path.parts}
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("chatapp/")}
    assert sorted(packed) == sorted(expected)


@pytest.fixture(scope="module")
def served(python: Path, empty_folder: Path) -> Iterator[tuple[Gunicorn, FakeUpstream]]:
    """The application with a database that `flask chatapp migrate` has made."""
    url = f"sqlite:///{empty_folder / 'data.db'}"
    options = {"CHATAPP_DATABASE_URL": url, "PYTHONPATH": "", "PYTHONWARNINGS": "error"}
    flask = (python, "-m", "flask", "--app", "host", "chatapp")
    assert "current" in run(*flask, "migrate", folder=empty_folder, CHATAPP_DATABASE_URL=url)
    assert "current" in run(*flask, "check", folder=empty_folder, CHATAPP_DATABASE_URL=url)
    upstream = FakeUpstream()
    server = Gunicorn(
        upstream.url,
        empty_folder / "instance",
        app="host:app",
        python=str(python),
        folder=empty_folder,
        **options,
    )
    yield server, upstream
    server.stop()
    upstream.close()


def test_it_serves_the_page_and_all_that_the_page_loads(
    served: tuple[Gunicorn, FakeUpstream],
) -> None:
    client = Client(served[0].url)
    page = client.get("/")
    assert page.status == 200
    preloaded = PRELOAD.findall(page.body.decode())
    assert "/assets/chat.js" in preloaded
    static = ROOT / "chatapp" / "static"
    files = [each for each in static.rglob("*") if each.suffix in (".js", ".css", ".svg")]
    wanted = sorted({*preloaded, *(f"/assets/{each.relative_to(static)}" for each in files)})
    assert {name: client.get(name).status for name in wanted} == dict.fromkeys(wanted, 200)


def test_it_answers_and_keeps_the_answer_in_the_migrated_database(
    served: tuple[Gunicorn, FakeUpstream],
) -> None:
    server, upstream = served
    client = Client(server.url)
    events = client.ask_streaming("Hi").all()
    assert (
        "".join(each.data["text"] for each in events if each.event == "message") == "Hello world."
    )
    assert events[-1].event == "done"
    assert upstream.calls[-1].prompt == "Hi"
    assert not list(server.instance.glob("*.db")), "it was told another database"
