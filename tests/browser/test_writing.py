"""Writing: the box, its drafts, what can be done with messages, options, shortcuts."""

import pytest
from playwright.sync_api import Page, expect

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


def test_a_conversation_goes_on(visits: Visits, site: Site) -> None:
    site.upstream.script = speak("Hello", " world", ".")
    page = visits.open(site.url)
    converse(page, "Go on: one")
    converse(page, "Go on: two")
    said = [message["content"] for message in site.upstream.call("Go on: two").json["messages"]]
    assert said == ["Go on: one", "Hello world.", "Go on: two"]


@pytest.mark.parametrize("event", [{"isComposing": True}, {"keyCode": 229}])
def test_enter_that_ends_a_composition_sends_nothing(
    visits: Visits, site: Site, event: dict[str, object]
) -> None:
    site.upstream.script = speak("Hello")
    page = visits.open(site.url)
    text = f"nihao {event}"
    hook(page, "box").fill(text)
    default_kept = hook(page, "box").evaluate(
        "(box, init) => box.dispatchEvent(new KeyboardEvent('keydown',"
        " {key: 'Enter', bubbles: true, cancelable: true, ...init}))",
        event,
    )
    assert default_kept, "the Enter belongs to the input method"
    expect(hook(page, "box")).to_have_value(text)
    hook(page, "box").press("Shift+Enter")
    expect(hook(page, "box")).to_have_value(f"{text}\n")
    hook(page, "box").press("Enter")
    wait_for_end(page)
    assert len(site.upstream.calls_for(f"{text}\n")) == 1


def test_the_box_grows_with_its_text_up_to_a_part_of_the_page(visits: Visits, site: Site) -> None:
    page = visits.open(site.url)
    box = hook(page, "box")
    height = "box => box.getBoundingClientRect().height"
    one = box.evaluate(height)
    box.fill("line\n" * 5)
    poll_in(page, lambda: box.evaluate(height) > 3 * one)
    box.fill("line\n" * 500)
    poll_in(page, lambda: 300 <= box.evaluate(height) <= 330)
    box.fill("")
    poll_in(page, lambda: box.evaluate(height) == one)


def test_a_long_text_can_be_pasted_and_is_folded(visits: Visits, site: Site) -> None:
    site.upstream.script = speak("I have read it.")
    page = visits.open(site.url)
    box = hook(page, "box")
    most = 200_000
    box.fill("x" * (most + 1))
    expect(hook(page, "status")).to_contain_text(f"{most + 1} / {most}")
    expect(hook(page, "submit")).to_have_attribute("aria-disabled", "true")
    text = "A line of a long text.\n" * 5000
    page.evaluate("text => navigator.clipboard.writeText(text)", text)
    box.fill("")
    expect(hook(page, "status")).to_be_empty()
    box.press("ControlOrMeta+v")
    box.press("Enter")
    wait_for_end(page)
    question = hook(page, "question")
    assert question.evaluate("e => e.getBoundingClientRect().height") < 500
    visits.picture(page, "folded")
    question.get_by_role("button", name="Show all").click()
    poll_in(page, lambda: question.evaluate("e => e.getBoundingClientRect().height") > 5000)


def test_drafts_are_kept_for_each_conversation(visits: Visits, site: Site) -> None:
    site.upstream.script = speak("Hello")
    page = visits.open(site.url)
    converse(page, "Draft one")
    hook(page, "box").fill("for the first")
    does(page, "new").click()
    expect(hook(page, "box")).to_have_value("")
    hook(page, "box").fill("for a new one")
    page.reload()
    expect(hook(page, "box")).to_have_value("for a new one")
    page.get_by_role("link", name="Draft one").click()
    expect(hook(page, "box")).to_have_value("for the first")
    does(page, "new").click()
    expect(hook(page, "box")).to_have_value("for a new one")
    converse(page, "for a new one")
    does(page, "new").click()
    expect(hook(page, "box")).to_have_value("")


def test_stop_keeps_what_is_there_and_closes_the_upstream(
    visits: Visits, site: Site, dictation: Dictation
) -> None:
    page = visits.open(site.url)
    for how in ("button", "key"):
        ask(page, f"Go on for ever, {how}")
        dictation.say("As far as this")
        wait_for_text(page, "As far as this")
        if how == "button":
            hook(page, "submit").click()
        else:
            page.keyboard.press("Escape")
        wait_for_end(page, "stopped")
        assert site.upstream.call(f"Go on for ever, {how}").wait_closed()
        expect(answer(page)).to_contain_text("Stopped.")
        dictation.end()
    page.reload()
    wait_for_end(page, "stopped")
    assert text_of(page) == "As far as this"


def test_answers_are_written_anew_and_all_versions_can_be_read(visits: Visits, site: Site) -> None:
    page = visits.open(site.url)
    site.upstream.script = speak("First.")
    converse(page, "Versions")
    site.upstream.script = speak("Second.")
    does(answer(page), "regenerate").click()
    wait_for_text(page, "Second.")
    wait_for_end(page)
    expect(hook(page, "answer")).to_have_count(1)
    expect(hook(answer(page), "place")).to_have_text("2/2")
    visits.picture(page, "versions")
    hook(answer(page), "before").click()
    wait_for_text(page, "First.")
    expect(hook(answer(page), "after")).to_be_focused()
    page.reload()
    wait_for_text(page, "First.")
    hook(answer(page), "after").click()
    wait_for_text(page, "Second.")
    converse(page, "and on")
    said = [each["content"] for each in site.upstream.call("and on").json["messages"]]
    assert said == ["Versions", "Second.", "and on"]


def test_a_question_is_edited_and_the_old_branch_stays(visits: Visits, site: Site) -> None:
    page = visits.open(site.url)
    site.upstream.script = speak("To the first.")
    converse(page, "Frist question")
    converse(page, "More")
    question = hook(page, "question").first
    question.hover()
    does(question, "edit").click()
    expect(hook(page, "editBox")).to_have_value("Frist question")
    hook(page, "editBox").press("Escape")
    expect(hook(page, "editBox")).to_have_count(0)
    question.hover()
    does(question, "edit").click()
    hook(page, "editBox").fill("First question")
    visits.picture(page, "editing")
    site.upstream.script = speak("To the edited.")
    hook(page, "editBox").press("ControlOrMeta+Enter")
    wait_for_text(page, "To the edited.")
    wait_for_end(page)
    expect(hook(page, "question")).to_have_count(1)
    expect(hook(hook(page, "question"), "text")).to_have_text("First question")
    expect(hook(hook(page, "question"), "place")).to_have_text("2/2")
    hook(hook(page, "question"), "before").click()
    expect(hook(page, "question")).to_have_count(2)
    expect(hook(hook(page, "question").first, "text")).to_have_text("Frist question")


def test_an_edit_that_is_refused_is_not_lost(visits: Visits, site: Site) -> None:
    visits.requests_may_fail = True
    page = visits.open(site.url)
    site.upstream.script = speak("Yes.")
    converse(page, "Before the edit")
    site.upstream.script = lambda call: call.refuse(429, Retry_After="20")
    page.keyboard.press("ArrowUp")
    hook(page, "editBox").fill("After the edit")
    does(page, "send").click()
    expect(hook(page, "status")).not_to_be_empty()
    expect(hook(page, "editBox")).to_have_value("After the edit")
    assert text_of(page) == "Yes."


def test_a_refused_question_comes_back_into_the_box(visits: Visits, site: Site) -> None:
    visits.requests_may_fail = True
    site.upstream.script = lambda call: call.refuse(429, Retry_After="20")
    page = visits.open(site.url, locale="zh-CN")
    ask(page, "Are you free?")
    expect(hook(page, "status")).to_contain_text("繁忙")
    expect(hook(page, "status")).to_contain_text("20")
    expect(hook(page, "box")).to_have_value("Are you free?")
    expect(hook(page, "question")).to_have_count(0)
    expect(hook(page, "greeting")).to_be_visible()
    visits.picture(page, "refused")
    site.upstream.script = speak("Yes.")
    hook(page, "box").press("Enter")
    wait_for_text(page, "Yes.")
    wait_for_end(page)
    expect(hook(page, "status")).to_be_empty()


def test_a_failed_answer_keeps_its_text_and_can_be_asked_again(visits: Visits, site: Site) -> None:
    def broken(call: Call) -> None:
        call.head()
        call.text("So far, ")
        call.cut()

    site.upstream.script = broken
    page = visits.open(site.url)
    ask(page, "Try")
    wait_for_end(page, "failed")
    assert text_of(page).strip() == "So far,"
    visits.picture(page, "failed")
    site.upstream.script = speak("so good.")
    answer(page).get_by_role("button", name="Ask again").click()
    wait_for_text(page, "so good.")
    wait_for_end(page)
    expect(hook(page, "answer")).to_have_count(1)
    expect(hook(page, "question")).to_have_count(1)
    page.reload()
    wait_for_end(page)
    assert text_of(page) == "so good."
    expect(hook(page, "answer")).to_have_count(1)


def options(page: Page) -> None:
    hook(page, "bar").get_by_role("button", name="Menu").click()
    does(page, "options").click()


def test_model_and_options_belong_to_the_conversation(visits: Visits, site: Site) -> None:
    site.upstream.script = speak("Aye.")
    page = visits.open(site.url)
    hook(page, "models").select_option("other-model")
    options(page)
    page.get_by_label("Instructions for the model").fill("Answer like a pirate.")
    page.get_by_label("Temperature").fill("0.2")
    visits.picture(page, "options")
    page.get_by_role("button", name="Save").click()
    converse(page, "Set options")
    asked = site.upstream.call("Set options").json
    assert asked["model"] == "other-model"
    assert asked["temperature"] == 0.2
    assert "pirate" in asked["messages"][0]["content"]
    does(page, "new").click()
    expect(hook(page, "models")).to_have_value("fake-model")
    page.get_by_role("link", name="Set options").click()
    expect(hook(page, "models")).to_have_value("other-model")
    options(page)
    expect(page.get_by_label("Temperature")).to_have_value("0.2")
    page.get_by_label("Temperature").fill("")
    page.get_by_role("button", name="Save").click()
    converse(page, "Unset options")
    assert "temperature" not in site.upstream.call("Unset options").json


def test_shortcuts_do_what_their_sheet_says(visits: Visits, site: Site) -> None:
    site.upstream.script = speak("A short answer.")
    page = visits.open(site.url)
    converse(page, "Keys")
    page.keyboard.press("ControlOrMeta+/")
    expect(page.get_by_role("dialog")).to_contain_text("New chat")
    visits.picture(page, "shortcuts")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("ControlOrMeta+k")
    expect(hook(page, "search")).to_be_focused()
    page.keyboard.press("Shift+Escape")
    expect(hook(page, "box")).to_be_focused()
    page.keyboard.press("ControlOrMeta+Shift+S")
    expect(hook(page, "sidebar")).to_be_hidden()
    page.keyboard.press("ControlOrMeta+Shift+S")
    expect(hook(page, "sidebar")).to_be_visible()
    page.keyboard.press("ControlOrMeta+Shift+C")
    poll_in(page, lambda: page.evaluate("navigator.clipboard.readText()") == "A short answer.")
    page.keyboard.press("ControlOrMeta+Shift+O")
    expect(hook(page, "greeting")).to_be_visible()
