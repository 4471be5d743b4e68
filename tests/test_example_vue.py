"""A page of one's own, built with Vue: `examples/vue`."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser import Relay, Visits
from tests.pages import Dictation
from tests.servers import ROOT, Gunicorn
from tests.upstream import FakeUpstream, speak

Serve = Callable[..., Gunicorn]
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


@pytest.fixture
def vue(serve: Serve, built: Path) -> Gunicorn:
    return serve("--chdir", str(built), app="app:app", CHATAPP_HEARTBEAT="1")


@pytest.fixture
def relay(vue: Gunicorn) -> Iterator[Relay]:
    between = Relay(vue.port)
    yield between
    between.close()


def send(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_label("Message").press("Enter")


def test_an_answer_grows_while_it_is_written(
    vue: Gunicorn, dictated: Dictation, visits: Visits
) -> None:
    page = visits.open(vue.url)
    send(page, "Why is the sky blue?")
    answer = page.locator(".assistant").last
    dictated.say("Because ")
    expect(answer).to_have_text("Because ")
    dictated.say("of <b>scattering</b>. 散射。")
    expect(answer).to_have_text("Because of <b>scattering</b>. 散射。")
    dictated.end()
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    visits.picture(page, "vue")


def test_a_connection_that_breaks_costs_no_text(
    relay: Relay, dictated: Dictation, visits: Visits, upstream: FakeUpstream
) -> None:
    visits.requests_may_fail = True
    page = visits.open(relay.url)
    send(page, "Go on")
    answer = page.locator(".assistant").last
    text = ""
    for number in range(3):
        text += f"Piece {number}. "
        dictated.say(f"Piece {number}. ")
        expect(answer).to_have_text(text)
        relay.cut()
    dictated.end()
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    expect(answer).to_have_text(text)
    assert len(upstream.calls) == 1


def test_the_next_question_goes_into_the_same_conversation(
    vue: Gunicorn, visits: Visits, upstream: FakeUpstream
) -> None:
    upstream.script = speak("One.")
    page = visits.open(vue.url)
    send(page, "First")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    send(page, "Second")
    expect(page.locator(".assistant")).to_have_text(["One.", "One."])
    asked = [each["content"] for each in upstream.call("Second").json["messages"]]
    assert asked == ["First", "One.", "Second"]


def test_stop_keeps_what_was_written(
    vue: Gunicorn, dictated: Dictation, visits: Visits, upstream: FakeUpstream
) -> None:
    page = visits.open(vue.url)
    send(page, "Stop me")
    dictated.say("Begun")
    expect(page.locator(".assistant")).to_have_text("Begun")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    expect(page.locator(".assistant")).to_have_text("Begun")
    assert upstream.call("Stop me").wait_closed()


def test_an_error_is_shown_as_a_sentence(
    vue: Gunicorn, visits: Visits, upstream: FakeUpstream
) -> None:
    visits.requests_may_fail = True
    upstream.script = lambda call: call.refuse(429, Retry_After="7")
    page = visits.open(vue.url)
    send(page, "Too much")
    expect(page.get_by_role("alert")).to_contain_text("busy")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
