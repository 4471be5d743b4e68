"""The list of conversations, and what several pages of one visitor tell each other."""

import json
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.support.browser import Visits
from tests.support.pages import (
    Dictation,
    ask,
    converse,
    does,
    hook,
    poll_in,
    text_of,
    wait_for_end,
    wait_for_text,
)
from tests.support.shared_server import Site
from tests.support.upstream import speak


def rows(page: Page) -> Locator:
    return hook(page, "list").locator("li")


def choose(page: Page, name: str, action: str) -> None:
    """Open a conversation's menu and take this from it."""
    row = rows(page).filter(has_text=name)
    row.hover()
    row.get_by_role("button").click()
    hook(page, "rowMenu").get_by_role("button", name=action).click()


def with_conversations(visits: Visits, site: Site, *questions: str) -> Page:
    site.upstream.script = speak("Hello.")
    page = visits.open(site.url)
    for question in questions:
        does(page, "new").click()
        converse(page, question)
    expect(rows(page)).to_have_count(len(questions))
    return page


def test_conversations_are_listed_by_day_newest_first(visits: Visits, site: Site) -> None:
    page = with_conversations(visits, site, "About cats", "About dogs")
    expect(rows(page)).to_contain_text(["About dogs", "About cats"])
    expect(hook(page, "list").get_by_role("heading")).to_have_text("today")
    expect(page.get_by_role("link", name="About dogs")).to_have_attribute("aria-current", "page")

    def old(route: object) -> None:
        times = ["2020-03-05T12:00:00Z", "2020-03-04T12:00:00Z", "2019-12-01T12:00:00Z"]
        listed = [
            {"id": f"c{number}", "title": f"Old {number}", "updated_at": time}
            for number, time in enumerate(times)
        ]
        route.fulfill(json={"conversations": listed, "next_cursor": None})  # type: ignore[attr-defined]

    page.route("**/api/conversations?*", old)
    page.reload()
    headings = hook(page, "list").get_by_role("heading")
    expect(headings).to_have_text(["March 2020", "December 2019"])


def test_a_conversation_has_an_address(visits: Visits, site: Site) -> None:
    page = with_conversations(visits, site, "First address", "Second address")
    address = page.url
    assert "/c/" in address
    assert page.title().startswith("Second address")
    page.get_by_role("link", name="First address").click()
    expect(hook(page, "question")).to_contain_text("First address")
    page.go_back()
    expect(hook(page, "question")).to_contain_text("Second address")
    page.goto("about:blank")
    page.goto(address)
    expect(hook(page, "question")).to_contain_text("Second address")
    link = page.get_by_role("link", name="First address")
    with page.context.expect_page() as opened:
        link.click(modifiers=["ControlOrMeta"])
    opened.value.close()
    expect(hook(page, "question")).to_contain_text("Second address")


def test_new_chat_and_back_while_an_answer_runs(
    visits: Visits, site: Site, dictation: Dictation
) -> None:
    page = visits.open(site.url)
    ask(page, "Slowly")
    dictation.say("A slow ")
    poll_in(page, lambda: text_of(page).strip() == "A slow")
    does(page, "new").click()
    expect(hook(page, "greeting")).to_be_visible()
    expect(hook(page, "answer")).to_have_count(0)
    expect(hook(page, "submit")).to_have_attribute("aria-label", "Send")
    dictation.say("answer.")
    page.go_back()
    wait_for_text(page, "A slow answer.")
    dictation.end()
    wait_for_end(page)


def test_conversations_are_searched(visits: Visits, site: Site) -> None:
    page = with_conversations(visits, site, "Wombats", "Quokkas")
    hook(page, "search").fill("womb")
    expect(rows(page)).to_have_count(1)
    expect(rows(page)).to_contain_text("Wombats")
    hook(page, "search").fill("zebras")
    expect(hook(page, "list")).to_have_text("No results.")
    hook(page, "search").fill("")
    expect(rows(page)).to_have_count(2)


def test_a_conversation_is_renamed(visits: Visits, site: Site) -> None:
    page = with_conversations(visits, site, "Old name")
    choose(page, "Old name", "Rename")
    field = hook(page, "list").get_by_role("textbox")
    field.fill("Never mind")
    field.press("Escape")
    expect(rows(page)).to_contain_text("Old name")
    choose(page, "Old name", "Rename")
    field.fill("New name")
    visits.picture(page, "renaming")
    field.press("Enter")
    expect(rows(page).get_by_role("link")).to_be_focused()
    expect(hook(page, "title")).to_have_text("New name")
    page.reload()
    expect(rows(page)).to_contain_text("New name")


def test_a_deleted_conversation_can_be_taken_back_for_a_while(visits: Visits, site: Site) -> None:
    visits.requests_may_fail = True
    page = with_conversations(visits, site, "Keep this", "Drop this")
    address = page.url
    choose(page, "Drop this", "Delete")
    expect(rows(page)).to_have_count(1)
    expect(hook(page, "greeting")).to_be_visible()
    visits.picture(page, "deleted")
    page.get_by_role("button", name="Undo").click()
    expect(rows(page)).to_have_count(2)
    choose(page, "Drop this", "Delete")
    # What is pending is done when the page goes away.
    page.goto("about:blank")
    page.goto(address)
    expect(hook(page, "aside")).to_contain_text("does not exist")
    expect(rows(page)).to_have_count(1)


def test_deleting_is_done_when_nobody_takes_it_back(visits: Visits, site: Site) -> None:
    page = with_conversations(visits, site, "For ever gone")
    page.clock.install()
    with page.expect_request(lambda request: request.method == "DELETE") as sent:
        choose(page, "For ever gone", "Delete")
        page.clock.fast_forward(8000)
    assert sent.value.response().status == 204
    expect(hook(page, "toast")).to_be_empty()


def test_a_conversation_is_exported(visits: Visits, site: Site, tmp_path: Path) -> None:
    page = with_conversations(visits, site, "Take me home")
    with page.expect_download() as saved:
        choose(page, "Take me home", "Export as Markdown")
    assert saved.value.suggested_filename.startswith("Take-me-home")
    assert saved.value.suggested_filename.endswith(".md")
    saved.value.save_as(tmp_path / "it.md")
    text = (tmp_path / "it.md").read_text("utf-8")
    assert text.startswith("# Take me home")
    assert text.index("\nTake me home\n") < text.index("\nHello.\n")
    hook(page, "bar").get_by_role("button", name="Menu").click()
    with page.expect_download() as saved:
        does(page, "export").get_by_text("Export as JSON").click()
    saved.value.save_as(tmp_path / "it.json")
    messages = json.loads((tmp_path / "it.json").read_text("utf-8"))["messages"]
    assert [each["content"] for each in messages] == ["Take me home", "Hello."]


def test_a_second_tab_sees_all_as_it_happens(
    visits: Visits, site: Site, dictation: Dictation
) -> None:
    visits.requests_may_fail = True
    first = visits.open(site.url)
    second = visits.tab(first.context, site.url)
    expect(hook(second, "list")).to_have_text("No conversations yet.")
    ask(first, "To both")
    dictation.say("One ")
    expect(rows(second)).to_contain_text("To both")
    second.get_by_role("link", name="To both").click()
    dictation.say("two")
    wait_for_text(second, "One two")
    dictation.end()
    wait_for_end(second)
    wait_for_end(first)
    # It asks there, and it is seen here.
    ask(second, "And back")
    dictation.say("Three")
    wait_for_text(first, "Three")
    expect(hook(first, "submit")).to_have_attribute("aria-label", "Stop")
    dictation.end()
    wait_for_end(first)
    choose(second, "To both", "Rename")
    hook(second, "list").get_by_role("textbox").fill("Renamed")
    hook(second, "list").get_by_role("textbox").press("Enter")
    expect(hook(first, "title")).to_have_text("Renamed")
    choose(second, "Renamed", "Delete")
    second.goto("about:blank")
    expect(hook(first, "greeting")).to_be_visible()
    expect(rows(first)).to_have_count(0)
