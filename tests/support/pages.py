"""Fixtures and words for tests of the page. No test leaves an error in the browser's console."""

import os
import queue
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.support.browser import PATIENCE, Relay, Visits, chromium
from tests.support.gunicorn import Gunicorn
from tests.support.shared_server import Site
from tests.support.upstream import Call, FakeUpstream, poll

Serve = Callable[..., Gunicorn]
HIDEABLE = """
let seen = "visible";
Object.defineProperty(document, "visibilityState", { get: () => seen });
globalThis.show = (state) => {
  seen = state;
  document.dispatchEvent(new Event("visibilitychange"));
};
"""
"""Lets a test say whether a tab is `visible` or `hidden`; a headless browser shows them all."""


class Dictation:
    """A script that says what the test dictates, at the moment it does."""

    def __init__(self) -> None:
        self._texts: queue.Queue[str | None] = queue.Queue()

    def __call__(self, call: Call) -> None:
        call.head()
        while (text := self._texts.get()) is not None:
            call.text(text)
        call.finish()

    def say(self, *texts: str) -> None:
        for text in texts:
            self._texts.put(text)

    def end(self) -> None:
        self._texts.put(None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def visits(browser: Browser, tmp_path: Path) -> Iterator[Visits]:
    """Pictures go to the folder that `TEST_ARTIFACTS` names."""
    folder = Path(os.environ.get("TEST_ARTIFACTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    opened = Visits(browser, folder)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def site(start_site: Callable[..., Site]) -> Site:
    """An application that the tests of a module share."""
    return start_site(CHATAPP_MODELS="fake-model,other-model", CHATAPP_HOSTS="chat.example")


@pytest.fixture
def dictation(site: Site) -> Iterator[Dictation]:
    """Says the answers of the shared application."""
    script = Dictation()
    site.upstream.script = script
    yield script
    script.end()


@pytest.fixture
def dictated(upstream: FakeUpstream) -> Iterator[Dictation]:
    """Says the answers of applications that the test starts itself."""
    script = Dictation()
    upstream.script = script
    yield script
    script.end()


@pytest.fixture
def relay(site: Site) -> Iterator[Relay]:
    between = Relay(site.server.port)
    yield between
    between.close()


def hook(page: Page | Locator, name: str) -> Locator:
    return page.locator(f'[data-chat="{name}"]')


def does(page: Page | Locator, name: str) -> Locator:
    """The buttons that do this, those that can be seen."""
    return page.locator(f'[data-do="{name}"]:visible')


def ask(page: Page, text: str) -> None:
    hook(page, "box").fill(text)
    hook(page, "box").press("Enter")


def answer(page: Page) -> Locator:
    return hook(page, "answer").last


def text_of(page: Page) -> str:
    """The text of the last answer, as far as it is drawn."""
    return hook(answer(page), "text").text_content() or ""


def wait_for_text(page: Page, text: str) -> None:
    poll_in(page, lambda: text_of(page) == text)


def poll_in(page: Page, condition: Callable[[], object]) -> None:
    """As `poll`, while the page's events are served."""
    poll(lambda: page.evaluate("0") or condition(), PATIENCE)


def wait_for_end(page: Page, state: str = "done") -> None:
    expect(answer(page)).to_have_attribute("data-state", state)
    expect(answer(page)).not_to_have_attribute("aria-busy", "true")


def converse(page: Page, text: str) -> None:
    """Ask, and wait for the end of the answer."""
    count = hook(page, "answer").count()
    ask(page, text)
    expect(hook(page, "answer")).to_have_count(count + 1)
    wait_for_end(page)


def lose_reply(route: Route) -> None:
    """The server does it, and the page never hears of it."""
    route.fetch()
    route.abort()
