"""A page of one's own, built with Vue: `examples/vue`."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import Relay, Visits
from tests.support.gunicorn import ROOT
from tests.support.pages import Dictation
from tests.support.shared_server import Site
from tests.support.upstream import speak

EXAMPLE = ROOT / "examples/vue"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with its page built. Without npm that is skipped; not under CI."""
    copy = tmp_path_factory.mktemp("example") / "vue"
    ignored = shutil.ignore_patterns("node_modules", "dist", "__pycache__", "package-lock.json")
    shutil.copytree(EXAMPLE, copy, ignore=ignored)
    for command in ("npm install --prefer-offline --no-audit --no-fund", "npm run build"):
        try:
            subprocess.run(
                command.split(), cwd=copy, check=True, capture_output=True, text=True, timeout=110
            )
        except (OSError, subprocess.SubprocessError) as error:
            told = f"{command}: {error}\n{getattr(error, 'stderr', '')}"
            if os.environ.get("CI") or "build" in command:
                pytest.fail(told)
            pytest.skip(told)
    return copy


@pytest.fixture(scope="module")
def site(start_site: Callable[..., Site], built: Path) -> Site:
    return start_site("--chdir", str(built), app="app:app", CHATAPP_HEARTBEAT="1")


@pytest.fixture
def relay(site: Site) -> Iterator[Relay]:
    between = Relay(site.server.port)
    yield between
    between.close()


def send(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_label("Message").press("Enter")


def test_an_answer_grows_while_it_is_written(
    site: Site, dictation: Dictation, visits: Visits
) -> None:
    page = visits.open(site.url)
    send(page, "Why is the sky blue?")
    answer = page.locator(".assistant").last
    dictation.say("Because ")
    expect(answer).to_have_text("Because ")
    dictation.say("of <b>scattering</b>. 散射。")
    expect(answer).to_have_text("Because of <b>scattering</b>. 散射。")
    dictation.end()
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    visits.picture(page, "vue")


def test_a_connection_that_breaks_costs_no_text(
    site: Site, relay: Relay, dictation: Dictation, visits: Visits
) -> None:
    visits.requests_may_fail = True
    page = visits.open(relay.url)
    send(page, "Go on")
    answer = page.locator(".assistant").last
    text = ""
    for number in range(3):
        text += f"Piece {number}. "
        dictation.say(f"Piece {number}. ")
        expect(answer).to_have_text(text)
        relay.cut()
    dictation.end()
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    expect(answer).to_have_text(text)
    assert len(site.upstream.calls_for("Go on")) == 1


def test_the_next_question_goes_into_the_same_conversation(site: Site, visits: Visits) -> None:
    site.upstream.script = speak("One.")
    page = visits.open(site.url)
    send(page, "First")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    send(page, "Second")
    expect(page.locator(".assistant")).to_have_text(["One.", "One."])
    asked = [each["content"] for each in site.upstream.call("Second").json["messages"]]
    assert asked == ["First", "One.", "Second"]


def test_stop_keeps_what_was_written(site: Site, dictation: Dictation, visits: Visits) -> None:
    page = visits.open(site.url)
    send(page, "Stop me")
    dictation.say("Begun")
    expect(page.locator(".assistant")).to_have_text("Begun")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    expect(page.locator(".assistant")).to_have_text("Begun")
    assert site.upstream.call("Stop me").wait_closed()


def test_an_error_is_shown_as_a_sentence(site: Site, visits: Visits) -> None:
    visits.requests_may_fail = True
    site.upstream.script = lambda call: call.refuse(429, Retry_After="7")
    page = visits.open(site.url)
    send(page, "Too much")
    expect(page.get_by_role("alert")).to_contain_text("busy")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
