"""The chat in an application that was there before it: `examples/existing_app`."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import Visits
from tests.support.client import Client
from tests.support.gunicorn import ROOT, Gunicorn
from tests.support.pages import ask, hook, wait_for_end
from tests.support.upstream import FakeUpstream, by_hand, poll, speak

Serve = Callable[..., Gunicorn]
EXAMPLE = ROOT / "examples/existing_app"
PATCH = EXAMPLE / "add_chat.patch"
PASSWORD = "correct horse battery staple"
READERS = 5


@pytest.fixture
def notes(serve: Serve, tmp_path: Path) -> Gunicorn:
    """The example, whose pool has one connection to the database."""
    return serve(
        "--chdir",
        str(EXAMPLE),
        app="notes:create_app()",
        NOTES_SECRET_KEY="for tests",
        NOTES_SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/notes.db",
        NOTES_SQLALCHEMY_ENGINE_OPTIONS='{"pool_size": 1, "max_overflow": 0, "pool_timeout": 2}',
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The example's files, to be changed."""
    ignored = shutil.ignore_patterns("__pycache__", "instance")
    return Path(shutil.copytree(EXAMPLE, tmp_path / "copy", ignore=ignored))


def without_chat(copy: Path) -> None:
    """Take the six lines out. Without the program `patch` a test is skipped; not under CI."""
    if shutil.which("patch") is None:
        missing = "There is no patch; install it (Debian: apt-get install patch)."
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    command = ["patch", "--reverse", "--strip=1", f"--input={PATCH}"]
    subprocess.run(command, cwd=copy, check=True, capture_output=True, timeout=60)


def run_own_tests(copy: Path, upstream: FakeUpstream) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_BASE_URL": upstream.url}
    environ = {name: value for name, value in environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        command, cwd=copy, env=environ, capture_output=True, text=True, timeout=100
    )


def sign_up(server: Gunicorn, name: str) -> Client:
    """A new account's visitor, without a browser."""
    visitor = Client(server.url)
    token = re.search(rb'name="csrf_token" value="([^"]+)"', visitor.get("/log-in").body)
    assert token
    fields = {"csrf_token": token[1].decode(), "name": name, "password": PASSWORD}
    form = "application/x-www-form-urlencoded"
    reply = visitor.call("POST", "/sign-up", urlencode(fields).encode(), Content_Type=form)
    assert reply.headers["Location"] == "/"
    return visitor


def sign_up_at(page: Page, name: str) -> None:
    form = page.locator("form", has=page.get_by_role("heading", name="Sign up"))
    form.get_by_label("Name").fill(name)
    form.get_by_label("Password").fill(PASSWORD)
    form.get_by_role("button").click()


def test_the_chat_is_six_lines_more_and_none_less(copy: Path) -> None:
    changes = re.findall(r"^[+-](?![+-]{2} )(.*)$", PATCH.read_text("utf-8"), re.M)
    assert len([line for line in changes if line.strip()]) == 6
    without_chat(copy)
    for file in copy.rglob("notes/**/*"):
        assert file.is_dir() or "chat" not in file.read_text("utf-8").lower(), file


def test_its_own_tests_pass_before_and_after_the_chat_is_added(
    copy: Path, upstream: FakeUpstream
) -> None:
    after = run_own_tests(copy, upstream)
    without_chat(copy)
    before = run_own_tests(copy, upstream)
    passed = [re.search(r"^(\d+ passed) in", each.stdout, re.M) for each in (before, after)]
    assert all(passed), (before.stdout, after.stdout)
    assert len({each[1] for each in passed if each}) == 1


def test_who_is_logged_in_finds_their_conversation_again_and_nobody_else_does(
    notes: Gunicorn, visits: Visits, upstream: FakeUpstream
) -> None:
    upstream.script = speak("For Ada ", "only.")
    page = visits.open(notes.url)
    sign_up_at(page, "Ada")
    page.get_by_label("Note", exact=True).fill("Buy milk")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("main").get_by_text("Buy milk")).to_be_visible()
    ask(page, "What is mine?")
    wait_for_end(page)
    expect(hook(page, "answer")).to_contain_text("For Ada only.")
    visits.picture(page, "existing_app")
    page.reload()
    expect(hook(page, "list").locator("li")).to_have_count(1)

    visits.requests_may_fail = True  # What the page that is being left still asks is refused.
    page.get_by_role("button", name="Log out").click()
    expect(page.locator("chat-box")).to_have_count(0)
    visits.requests_may_fail = False
    sign_up_at(page, "Bob")
    expect(hook(page, "box")).to_be_visible()
    expect(hook(page, "list").locator("li")).to_have_count(0)


def test_strangers_get_no_chat(notes: Gunicorn, upstream: FakeUpstream) -> None:
    stranger = Client(notes.url)
    reply = stranger.call("POST", "/chat/api/chat", {"message": "hi"})
    assert (reply.status, reply.error["code"]) == (401, "not_signed_in")
    assert stranger.get("/chat/api/conversations").status == 401
    assert not upstream.calls


def test_streams_keep_no_connection_of_the_applications_database(
    notes: Gunicorn, upstream: FakeUpstream
) -> None:
    upstream.script = by_hand
    ada = sign_up(notes, "Ada")
    streams = []
    for number in range(READERS):
        question = {"message": f"Question {number}"}
        asked = ada.request("POST", "/chat/api/chat", question, Accept="text/event-stream")
        assert asked.status == 200
        streams.append(asked)
    assert ada.get("/").status == 200
    for number, stream in enumerate(streams):
        call = upstream.call(f"Question {number}")
        speak("Over.")(call)
        assert b"event: done\n" in stream.read()
        stream.close()
    poll(lambda: ada.get("/").status == 200)
