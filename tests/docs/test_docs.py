"""The documentation is true: its code runs, its links lead somewhere, its tables are complete."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import chatapp
from chatapp import create_app
from chatapp.answers.events import EventType
from chatapp.answers.outcome import TRANSITIONS
from chatapp.errors import CODES
from tests.architecture.test_layout import IMPORTS
from tests.support.browser import Relay, chromium
from tests.support.client import Client
from tests.support.documentation import blocks
from tests.support.gunicorn import ROOT, Gunicorn
from tests.support.upstream import Call, FakeUpstream, poll

Serve = Callable[..., Gunicorn]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "chatapp"
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
PAGES = [
    *READMES,
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted(DOCS.glob("*.md")),
]
PAGES += DECISIONS
PAGES += sorted(ROOT.glob("examples/*/README.md"))
DELTAS = [f"Piece {number} 第{number}句。 " for number in range(30)]
TEXT = "".join(DELTAS)


def prose(page: Path) -> str:
    """A page without its fenced code."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)


def rows(page: Path, head: str) -> list[list[str]]:
    """The cells of the table whose first line this is."""
    _, _, below = page.read_text("utf-8").partition(f"\n{head}\n")
    table = re.match(r"\|[ -|]+\n((?:\|.*\n)+)", below)
    assert table, f"{page.name} has no table {head}"
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in table[1].splitlines()
    ]


def anchors(page: Path) -> set[str]:
    """What `page.md#…` may name: GitHub's form of each heading."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_the_chinese_readme_shows_what_the_english_one_does() -> None:
    def shown(page: Path) -> list[list[str]]:
        code = re.findall(r"^```\w*\n.*?^```$", page.read_text("utf-8"), re.M | re.S)
        # A shell comment is in the reader's language.
        return [[re.sub(r"(?m)\s+# .*$", "", each) for each in code], links(page)]

    def links(page: Path) -> list[str]:
        targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
        return [each for each in targets if not each.startswith("README")]

    english, chinese = READMES
    assert shown(chinese) == shown(english)
    assert "](README.zh-CN.md)" in english.read_text("utf-8")
    assert "](README.md)" in chinese.read_text("utf-8")
    assert re.findall(r"^#+ ", prose(chinese), re.M) == re.findall(r"^#+ ", prose(english), re.M)


@pytest.mark.parametrize("name", ["settings", "reference"])
def test_a_page_that_is_made_from_the_code_is_what_its_program_writes(name: str) -> None:
    spec = importlib.util.spec_from_file_location(f"make_{name}", DOCS / f"make_{name}.py")
    assert spec
    assert spec.loader
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    assert (DOCS / f"{name}.md").read_text("utf-8") == program.page()


def test_the_reference_has_every_public_name() -> None:
    text = (DOCS / "reference.md").read_text("utf-8")
    missing = [name for name in chatapp.__all__ if f"`{name}`" not in text]
    assert missing == ["create_app"]  # `wsgi.py` calls it; an application does not


def test_the_tables_of_events_have_each_type() -> None:
    documented = {
        kind.strip("`")
        for kind, _, _ in rows(DOCS / "protocol.md", "| `event:` | `data:` | meaning |")
    }
    assert documented == {"none", *EventType} - {EventType.TEXT}


def test_the_table_of_errors_has_every_code_with_its_status() -> None:
    documented = {
        code.strip("`"): (int(status), retryable)
        for code, status, retryable, _ in rows(
            DOCS / "protocol.md", "| code | status | retryable | what to do |"
        )
    }
    for code, error in CODES.items():
        assert documented[code] == (error.status, "yes" if error.retryable else "no"), code


def test_the_table_of_routes_is_the_applications() -> None:
    documented = {
        route.strip("`")
        for route, _, _ in rows(DOCS / "protocol.md", "| route | what it does | reply |")
    }
    served = {
        f"{method} {rule.rule}"
        for rule in create_app().url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert documented == served


def test_the_table_of_packages_has_each_with_what_it_imports() -> None:
    documented = {
        name.strip("`"): [] if imports == "–" else imports.split(", ")
        for name, _, imports in rows(DOCS / "design.md", "| package | job | imports |")
    }
    assert documented == {package: allowed.split() for package, allowed in IMPORTS.items()}


def test_each_where_is_names_a_file() -> None:
    answers = re.findall(r"^\* Where .*\? `(.+)`$", prose(DOCS / "design.md"), re.M)
    assert len(answers) >= 12
    assert [path for path in answers if not (PACKAGE / path).is_file()] == []


def test_the_index_of_decisions_has_each() -> None:
    indexed = [
        re.findall(r"\]\((.+)\)", title)[0]
        for title, _ in rows(DOCS / "design.md", "| decision | in short |")
    ]
    assert indexed == [f"decisions/{file.name}" for file in DECISIONS]


def test_the_table_of_the_pages_modules_has_each() -> None:
    named = [
        name
        for names, _ in rows(DOCS / "design.md", "| modules | what they do |")
        for name in re.findall(r"`([\w/]+)`", names)
    ]
    static = PACKAGE / "static"
    files = static.rglob("*.js")
    modules = [file.relative_to(static).with_suffix("").as_posix() for file in files]
    assert sorted(named) == sorted(modules)


def test_the_table_of_custom_properties_has_each() -> None:
    style = (PACKAGE / "static/chat_box.css").read_text("utf-8")
    documented = rows(DOCS / "embedding.md", "| custom property | of |")
    names = {name for cell, _ in documented for name in re.findall(r"`(--[\w-]+)`", cell)}
    assert names == set(re.findall(r"var\((--chat-[\w-]+),", style))


def test_the_life_cycle_table_is_the_codes() -> None:
    documented = {
        (source, target)
        for sources, after in rows(DOCS / "design.md", "| from | to |")
        for source in re.findall(r"`(\w+)`", sources)
        for target in re.findall(r"`(\w+)`", after)
    }
    assert documented == {(str(a), str(b)) for a, after in TRANSITIONS.items() for b in after}


def test_the_readmes_python_serves_the_chat_below_its_prefix(serve: Serve, tmp_path: Path) -> None:
    [code] = blocks(ROOT / "README.md", "python")
    (tmp_path / "readme.py").write_text(code, "utf-8")
    client = Client(serve("--pythonpath", str(tmp_path), app="readme:app").url)
    page = client.get("/chat/")
    assert page.status == 200
    assert "text/html" in page.headers["Content-Type"]
    reply = client.call("POST", "/chat/api/chat", {"message": "hi"}, Accept="text/event-stream")
    assert reply.status == 200
    assert b"event: done\n" in reply.body
    assert client.get("/").status == 404


def readers(server: Gunicorn) -> int:
    """How many connections follow an answer."""
    metrics = Client(server.url).get("/metrics").body.decode()
    found = re.search(r"^chatapp_readers (\d+)$", metrics, re.M)
    assert found, metrics
    return int(found[1])


class Cuts:
    """A script that says `TEXT`, and three times cuts the connection of who reads it."""

    def __init__(self, server: Gunicorn) -> None:
        self.server = server
        self.relay = Relay(server.port)
        self.count = 0

    def __call__(self, call: Call) -> None:
        call.head()
        for number, piece in enumerate(DELTAS):
            call.text(piece)
            if number % 10 == 5:
                poll(lambda: readers(self.server) == 1)
                self.relay.cut()
                poll(lambda: readers(self.server) == 0)
                self.count += 1
        call.finish()


@pytest.fixture
def cuts(serve: Serve, upstream: FakeUpstream) -> Iterator[Cuts]:
    """A server that can be reached at `cuts.relay.url`, and the script of its upstream."""
    script = upstream.script = Cuts(serve())
    yield script
    script.relay.close()


def run_python_client(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The protocol page's client, asking."""
    [code] = blocks(DOCS / "protocol.md", "python")
    (folder / "ask.py").write_text(code, "utf-8")
    command = [sys.executable, folder / "ask.py", url, "hi"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, encoding="utf-8")


def test_the_python_client_prints_the_whole_answer_though_its_connection_is_cut(
    cuts: Cuts, upstream: FakeUpstream, tmp_path: Path
) -> None:
    ran = run_python_client(cuts.relay.url, tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == TEXT
    assert cuts.count == 3
    assert len(upstream.calls) == 1


def test_the_python_client_says_why_an_answer_broke_off(
    serve: Serve, upstream: FakeUpstream, tmp_path: Path
) -> None:
    def break_off(call: Call) -> None:
        call.head()
        call.text("Begun")
        call.cut()

    upstream.script = break_off
    ran = run_python_client(serve().url, tmp_path)
    assert (ran.returncode, ran.stdout) == (1, "Begun")
    assert "broke" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_javascript_client_shows_the_whole_answer_though_its_connection_is_cut(
    cuts: Cuts, upstream: FakeUpstream
) -> None:
    [code] = blocks(DOCS / "protocol.md", "js")
    program = f"""async () => {{
      {code}
      const shown = [];
      const text = await ask("", "hi", (soFar) => shown.push(soFar));
      return [shown, text];
    }}"""
    with chromium() as browser:
        page = browser.new_page(bypass_csp=True)  # The data that it opens runs nothing.
        page.goto(f"{cuts.relay.url}/healthz")
        shown, text = page.evaluate(program)
    assert text == TEXT
    assert shown[-1] == TEXT
    assert len(shown) >= len(DELTAS)
    assert cuts.count == 3
    assert len(upstream.calls) == 1
