"""What a browser loads before anybody has said a word."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Request, expect

from tests.support.browser import Relay, Visits
from tests.support.pages import Dictation, answer, ask, hook, poll_in, wait_for_end, wait_for_text
from tests.support.shared_server import Site

WIRE_MOST = 48 * 1024
"""Bytes of all responses: heads and bodies."""
ICON = "fetch(document.querySelector('link[rel=icon]').href).then((reply) => reply.text())"
HOSTS = {"gzip": "chat.example", "br": "127.0.0.1"}
"""A browser takes more than `gzip` by https and from its own machine only."""


def load(visits: Visits, url: str) -> tuple[Page, list[Request]]:
    """A page that has all it wants, and what it has asked for."""
    page = visits.open("about:blank")
    asked: list[Request] = []
    there: list[Request] = []
    page.on("request", lambda request: asked.append(request))
    page.on("requestfinished", lambda request: there.append(request))
    page.goto(url)
    expect(hook(page, "box")).to_be_visible()
    expect(hook(page, "list").locator("p")).to_be_visible()
    expect(hook(page, "models").locator("option")).to_have_count(2)
    # A browser without a window shows no icon.
    page.evaluate(ICON)
    streams = 1  # Of pushed events; it has no end.
    poll_in(page, lambda: len(there) == len(asked) - streams)
    return page, asked


@pytest.mark.parametrize("coding", HOSTS)
def test_a_first_visit_is_small(
    relay: Relay,  # Before the browser, so that it is closed after it.
    visits: Visits,
    coding: str,
    record_property: Callable[[str, object], None],
) -> None:
    page, asked = load(visits, f"http://{HOSTS[coding]}:{relay.port}/")
    codings = {
        name: request.response().header_value("content-encoding")  # type: ignore[union-attr]
        for request in asked
        if (name := request.url.rpartition("/")[2]).endswith((".js", ".css", ".svg"))
    }
    assert len(codings) > 20
    assert set(codings.values()) == {coding}
    record_property(f"bytes of a first visit, {coding}", relay.received)
    assert relay.received <= WIRE_MOST, f"{relay.received} bytes in {len(asked)} responses"
    # Nothing is fetched twice, and all that is preloaded is used.
    urls = [request.url for request in asked if "/assets/" in request.url]
    assert len(urls) == len(set(urls))
    preloaded = page.evaluate(
        "[...document.querySelectorAll('link[rel=modulepreload]')].map(({ href }) => href)"
    )
    assert {url for url in urls if url.endswith(".js")} == set(preloaded)


def test_what_draws_an_answer_is_fetched_when_a_question_is_written(
    visits: Visits, site: Site, dictation: Dictation
) -> None:
    page, asked = load(visits, site.url)
    assert not [request.url for request in asked if "/markdown/" in request.url]
    hook(page, "box").press_sequentially("a")
    poll_in(page, lambda: [each.url for each in asked if each.url.endswith("/scan.js")])
    dictation.say("**Bold**")
    ask(page, "Say it")
    expect(hook(answer(page), "text").locator("strong")).to_have_text("Bold")


def test_an_answer_is_drawn_also_if_that_can_be_fetched_only_later(
    visits: Visits, site: Site, dictation: Dictation
) -> None:
    visits.requests_may_fail = True
    page, _ = load(visits, site.url)
    failed = []

    def fail(route: object) -> None:
        failed.append(route)
        route.abort()  # type: ignore[attr-defined]

    page.route("**/markdown/markdown.js", fail)
    dictation.say("One ", "**two**")
    ask(page, "Without the module")
    poll_in(page, lambda: len(failed) > 1)
    dictation.say(" three.")
    dictation.end()
    page.unroute("**/markdown/markdown.js")
    wait_for_text(page, "One two three.")
    wait_for_end(page)
    expect(hook(answer(page), "text").locator("strong")).to_have_text("two")


def test_a_conversation_that_is_opened_has_all_modules_preloaded(
    visits: Visits, site: Site, dictation: Dictation
) -> None:
    page = visits.open(site.url)
    dictation.say("Kept.")
    dictation.end()
    ask(page, "Keep it")
    wait_for_end(page)
    page.goto(page.url)
    preloaded = page.locator('link[rel="modulepreload"][href*="/markdown/"]')
    assert preloaded.count() > 3
    wait_for_text(page, "Kept.")
