"""`<chat-box>` in the pages of a host application."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import Visits
from tests.support.pages import hook
from tests.support.shared_server import Site
from tests.support.upstream import speak


@pytest.fixture(scope="module")
def host(start_site: Callable[..., Site]) -> Site:
    return start_site(app="tests.support.host_app:create_host()")


def open_shop(visits: Visits, host: Site) -> Page:
    page = visits.open(f"{host.url}/shop")
    expect(hook(page, "box")).to_have_count(2)
    return page


def test_two_chats_on_a_page_do_not_disturb_each_other(visits: Visits, host: Site) -> None:
    page = open_shop(visits, host)
    one, two = page.locator("#one"), page.locator("#two")
    for box, question in ((one, "To the first"), (two, "To the second")):
        host.upstream.script = speak(f"Heard: {question}")
        hook(box, "box").fill(question)
        hook(box, "box").press("Enter")
        expect(hook(box, "answer")).to_have_attribute("data-state", "done")
        expect(hook(box, "answer")).to_contain_text(f"Heard: {question}")
        expect(hook(box, "question")).to_have_count(1)
    expect(hook(one, "sidebar")).to_be_hidden()
    visits.picture(page, "embedded")
    # One visitor: the other chat's list has both.
    expect(hook(two, "list").locator("li")).to_have_count(2)


def test_an_embedded_chat_leaves_the_page_alone(visits: Visits, host: Site) -> None:
    page = open_shop(visits, host)
    one = page.locator("#one")
    expect(page.locator("body")).to_be_focused()
    hook(one, "box").fill("Leave it alone")
    hook(one, "box").press("Enter")
    expect(hook(one, "answer")).to_have_attribute("data-state", "done")
    assert page.url == f"{host.url}/shop"
    assert page.title() == "A shop"
    assert page.evaluate("history.length") <= 2
    assert page.evaluate("document.documentElement.lang") == "en"
    expect(page.get_by_role("main")).to_have_count(1)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    page.locator("h1").click()
    page.keyboard.press("ControlOrMeta+Shift+O")
    expect(hook(one, "answer")).to_have_count(1)


def test_attributes_and_custom_properties_shape_it(visits: Visits, host: Site) -> None:
    page = open_shop(visits, host)
    one, two = page.locator("#one"), page.locator("#two")
    expect(hook(two, "submit")).to_have_attribute("aria-label", "发送")
    hook(one, "box").fill("x")
    colour = "e => getComputedStyle(e).backgroundColor"
    expect(hook(one, "submit")).to_have_attribute("aria-disabled", "false")
    assert hook(one, "submit").evaluate(colour) == "rgb(1, 128, 3)"
    assert hook(two, "submit").evaluate(colour) != "rgb(1, 128, 3)"
    assert hook(one, "root").evaluate("e => getComputedStyle(e).colorScheme") == "dark"
    assert hook(one, "root").evaluate("e => getComputedStyle(e).fontFamily").startswith("Georgia")
    # The host's own styles stop at the border.
    assert hook(one, "submit").evaluate("e => getComputedStyle(e).fontSize") == "16px"
    one.evaluate("e => e.setAttribute('lang', 'zh')")
    expect(hook(one, "submit")).to_have_attribute("aria-label", "发送")


def test_a_conversation_is_opened_by_its_attribute(visits: Visits, host: Site) -> None:
    host.upstream.script = speak("Opened.")
    page = open_shop(visits, host)
    one, two = page.locator("#one"), page.locator("#two")
    one.evaluate("e => e.addEventListener('chat-conversation', ({detail}) => e.title = detail)")
    hook(one, "box").fill("By attribute")
    hook(one, "box").press("Enter")
    expect(hook(one, "answer")).to_contain_text("Opened.")
    made = one.get_attribute("title")
    two.evaluate("(e, id) => e.setAttribute('conversation', id)", made)
    expect(hook(two, "question")).to_contain_text("By attribute")
    two.evaluate("e => e.remove()")
    expect(page.locator("chat-box")).to_have_count(1)


def test_what_stands_between_the_tags_is_shown_where_there_is_no_chat(
    visits: Visits, host: Site
) -> None:
    visits.requests_may_fail = True
    page = visits.open("about:blank")
    page.route("**/api/page*", lambda route: route.fulfill(status=401, body="Log in"))
    page.goto(f"{host.url}/shop")
    expect(page.locator("#one").get_by_text("Please sign in.")).to_be_visible()
