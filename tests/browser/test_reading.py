"""What a reader sees of an answer while it comes, and afterwards."""

import json

import pytest
from playwright.sync_api import Page, Route, expect

from tests.support.browser import Visits
from tests.support.pages import (
    Dictation,
    answer,
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
from tests.support.upstream import Call, speak

LONG = "".join(f"Line {number} of a long answer, 长回答的一行。\n\n" for number in range(200))
TO_END = "e => e.scrollHeight - e.scrollTop - e.clientHeight"


def test_an_answer_is_seen_growing_and_is_announced_once_at_its_end(
    visits: Visits, site: Site, dictation: Dictation
) -> None:
    page = visits.open(site.url)
    expect(hook(page, "announcer")).to_have_count(1)
    page.evaluate(
        """() => {
          const {shadowRoot} = document.querySelector("chat-box");
          globalThis.said = [];
          new MutationObserver(() => {
            const {textContent} = shadowRoot.querySelector('[data-chat="announcer"]');
            if (textContent) said.push(textContent);
          }).observe(shadowRoot, {subtree: true, childList: true, characterData: true});
        }"""
    )
    ask(page, "Why is the sky blue?")
    expect(hook(page, "question")).to_contain_text("Why is the sky blue?")
    expect(hook(page, "box")).to_have_value("")
    dictation.say("Because ", "of the air")
    wait_for_text(page, "Because of the air")
    expect(answer(page)).to_have_attribute("aria-busy", "true")
    expect(hook(page, "submit")).to_have_attribute("aria-label", "Stop")
    assert page.evaluate("said") == []
    dictation.say(".")
    dictation.end()
    wait_for_end(page)
    assert text_of(page) == "Because of the air."
    expect(hook(page, "submit")).to_have_attribute("aria-label", "Send")
    assert set(page.evaluate("said")) == {"The answer is complete."}


def test_markdown_is_drawn_and_code_can_be_copied(visits: Visits, site: Site) -> None:
    site.upstream.script = speak("# Head\n\nSome **bold** words.\n\n", "```py\nprint(1)\n", "```\n")
    page = visits.open(site.url)
    converse(page, "Markdown, please")
    expect(answer(page).locator("strong")).to_have_text("bold")
    expect(answer(page).get_by_role("heading", name="Head")).to_be_visible()
    code = hook(answer(page), "code")
    expect(code).to_contain_text("py")
    code.get_by_role("button", name="Copy").click()
    expect(code.get_by_role("button")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "print(1)"
    does(answer(page), "copy").first.click()
    poll_in(page, lambda: "**bold**" in page.evaluate("navigator.clipboard.readText()"))
    visits.picture(page, "markdown")


def test_hostile_text_stays_text(visits: Visits, site: Site) -> None:
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>\u2028&lt;b&gt;"
    site.upstream.script = speak(*hostile, "\n\n[x](javascript:alert(3)) ![y](http://a.test/y.png)")
    page = visits.open(site.url)
    page.on("dialog", lambda dialog: pytest.fail(f"script ran: {dialog.message}"))
    converse(page, hostile)
    assert "<img src=x onerror=alert(1)>" in text_of(page)
    expect(hook(page, "question")).to_contain_text(hostile)
    for selector in ("img", "script", 'a[href^="javascript:"]'):
        expect(hook(page, "messages").locator(selector)).to_have_count(0)
    page.reload()
    wait_for_end(page)
    assert "<img src=x onerror=alert(1)>" in text_of(page)


def test_reasoning_is_folded_away_beside_the_answer(visits: Visits, site: Site) -> None:
    def think(call: Call) -> None:
        call.head()
        call.text("Let me see.", field="reasoning_content")
        call.text("42")
        call.finish()

    site.upstream.script = think
    page = visits.open(site.url)
    for _ in range(2):
        converse(page, "?") if not hook(page, "answer").count() else wait_for_end(page)
        assert text_of(page) == "42"
        expect(page.get_by_text("Let me see.")).to_be_hidden()
        hook(page, "summary").click()
        expect(page.get_by_text("Let me see.")).to_be_visible()
        page.reload()
        expect(hook(page, "answer")).to_have_count(1)


def sse(*events: tuple[str, dict[str, object]]) -> str:
    """A stream of these events, from 1."""
    return "".join(
        f"event: {type_}\ndata: {json.dumps(data)}\nid: {number}\n\n"
        for number, (type_, data) in enumerate(events, 1)
    )


def test_a_tool_call_is_a_small_line(visits: Visits, site: Site) -> None:
    site.upstream.script = speak("It rains.")
    events = [
        ("start", {"answer_id": "a"}),
        ("tool", {"id": "1", "name": "weather", "arguments": {"city": "Wien"}}),
        ("tool", {"id": "2", "name": "clock", "arguments": {}}),
        ("tool", {"id": "1", "name": "weather", "result": "rain"}),
        ("tool", {"id": "2", "name": "clock", "error": "stands still"}),
        ("message", {"text": "It rains."}),
        ("done", {"finish_reason": "stop"}),
    ]

    def stream(route: Route) -> None:
        route.fulfill(headers={"Content-Type": "text/event-stream"}, body=sse(*events))

    page = visits.open(site.url)
    page.route("**/answers/*/events*", stream)
    ask(page, "What is the weather?")
    wait_for_text(page, "It rains.")
    rows = hook(page, "calls").locator("li")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text('weather{"city":"Wien"}')
    expect(rows.first).to_have_attribute("data-state", "done")
    expect(rows.last).to_have_attribute("data-state", "failed")
    visits.picture(page, "tools")


def test_a_long_answer_is_followed_until_the_reader_scrolls_up(
    visits: Visits, site: Site, dictation: Dictation
) -> None:
    page = visits.open(site.url)
    scroller = hook(page, "scroller")
    ask(page, "At length")
    dictation.say(LONG)
    expect(hook(page, "toEnd")).to_be_hidden()
    poll_in(page, lambda: len(text_of(page)) > 5000 and scroller.evaluate(TO_END) < 2)
    scroller.hover()
    page.mouse.wheel(0, -400)
    expect(hook(page, "toEnd")).to_be_visible()
    place = scroller.evaluate("e => e.scrollTop")
    before = len(text_of(page))
    dictation.say(LONG)
    poll_in(page, lambda: len(text_of(page)) == 2 * before)
    assert scroller.evaluate("e => e.scrollTop") <= place
    visits.picture(page, "scrolled-up")
    does(page, "toEnd").click()
    poll_in(page, lambda: scroller.evaluate(TO_END) < 2)
    expect(hook(page, "toEnd")).to_be_hidden()
    dictation.say(LONG)
    poll_in(page, lambda: len(text_of(page)) == 3 * before and scroller.evaluate(TO_END) < 2)


def test_right_to_left_text_is_set_from_the_right(visits: Visits, site: Site) -> None:
    site.upstream.script = speak("שלום עולם")
    page = visits.open(site.url)
    converse(page, "مرحبا بالعالم")

    def direction(element: str) -> str:
        return str(page.locator(element).first.evaluate("e => getComputedStyle(e).direction"))

    assert direction('[data-chat="question"] [data-chat="text"]') == "rtl"
    assert direction('[data-chat="answer"] [data-chat="text"] p') == "rtl"
    assert direction('[data-chat="bar"]') == "ltr"
    visits.picture(page, "right-to-left")


def test_a_page_can_be_used_while_a_long_answer_comes(visits: Visits, site: Site) -> None:
    """Half of it as one paragraph, half as many blocks."""
    block = "A sentence with **bold** words and `code`, and a list:\n\n- one\n- two\n\n"
    site.upstream.script = speak(*["word " * 100] * 100, *[block] * 600)
    page = visits.open(site.url)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    ask(page, "At great length")
    poll_in(page, lambda: len(text_of(page)) > 10_000)
    hook(page, "box").fill("typed meanwhile")
    wait_for_end(page)
    assert "typed meanwhile" in hook(page, "box").input_value()
    poll_in(page, lambda: len(text_of(page)) > 80_000)
    metrics = session.send("Performance.getMetrics")["metrics"]
    (scripting,) = (each["value"] for each in metrics if each["name"] == "ScriptDuration")
    assert scripting < 10


def test_an_empty_page_greets(visits: Visits, site: Site) -> None:
    page: Page = visits.open(site.url)
    expect(hook(page, "greeting")).to_be_visible()
    expect(hook(page, "box")).to_be_focused()
    visits.picture(page, "empty")
