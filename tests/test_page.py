"""The page in a real browser, before a real gunicorn. No test leaves an error in the console."""

import os
import queue
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.browser import PATIENCE, Relay, Visits, chromium
from tests.client import Client
from tests.servers import ROOT, Gunicorn
from tests.upstream import Call, FakeUpstream, poll, speak

Serve = Callable[..., Gunicorn]
LONG = "".join(f"Line {number} of a long answer, 长回答的一行。\n" for number in range(300))


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
def visits(browser: Browser) -> Iterator[Visits]:
    pictures = os.environ.get("PAGE_PICTURES")
    opened = Visits(browser, Path(pictures) if pictures else None)
    yield opened
    opened.close()


@pytest.fixture
def relay(serve: Serve) -> Iterator[Relay]:
    between = Relay(serve().port)
    yield between
    between.close()


@pytest.fixture
def dictation(upstream: FakeUpstream) -> Dictation:
    script = Dictation()
    upstream.script = script
    return script


def hook(page: Page, name: str) -> Locator:
    return page.locator(f'[data-chat="{name}"]')


def ask(page: Page, text: str) -> None:
    hook(page, "box").fill(text)
    hook(page, "box").press("Enter")


def answer(page: Page) -> Locator:
    return hook(page, "answer").last


def text_of(page: Page) -> str:
    """The text of the last answer, to the letter."""
    return answer(page).locator('[data-chat="text"]').text_content() or ""


def wait_for_text(page: Page, text: str) -> None:
    poll_in(page, lambda: text_of(page) == text)


def poll_in(page: Page, condition: Callable[[], object]) -> None:
    """As `poll`, while the page's events are served."""
    poll(lambda: page.evaluate("0") or condition(), PATIENCE)


def wait_for_end(page: Page, state: str = "done") -> None:
    expect(answer(page)).to_have_attribute("data-state", state)
    expect(answer(page)).not_to_have_attribute("aria-busy", "true")


def test_an_answer_is_seen_growing_before_it_ends(
    visits: Visits, serve: Serve, dictation: Dictation
) -> None:
    page = visits.open(serve().url)
    visits.picture(page, "empty")
    ask(page, "Why is the sky blue?")
    expect(hook(page, "question")).to_contain_text("Why is the sky blue?")
    expect(hook(page, "box")).to_have_value("")
    dictation.say("Because ", "of the air")
    wait_for_text(page, "Because of the air")
    expect(answer(page)).to_have_attribute("aria-busy", "true")
    expect(hook(page, "submit")).to_have_attribute("aria-label", "Stop")
    dictation.say(".")
    dictation.end()
    wait_for_end(page)
    assert text_of(page) == "Because of the air."
    expect(hook(page, "announcer")).to_have_text("The answer is complete.")
    expect(hook(page, "submit")).to_have_attribute("aria-label", "Send")
    assert re.fullmatch(r"/c/[\w-]+", page.evaluate("location.pathname"))
    visits.picture(page, "answered")


def test_a_conversation_goes_on(visits: Visits, serve: Serve, upstream: FakeUpstream) -> None:
    page = visits.open(serve().url)
    ask(page, "One")
    wait_for_end(page)
    ask(page, "Two")
    upstream.wait_for_calls(2)
    wait_for_end(page)
    said = [message["content"] for message in upstream.calls[1].json["messages"]]
    assert said == ["One", "Hello world.", "Two"]


def test_stop_keeps_what_is_there_and_closes_the_upstream(
    visits: Visits, serve: Serve, upstream: FakeUpstream, dictation: Dictation
) -> None:
    page = visits.open(serve().url)
    ask(page, "Go on for ever")
    dictation.say("As far as this")
    wait_for_text(page, "As far as this")
    hook(page, "submit").click()
    wait_for_end(page, "stopped")
    assert upstream.calls[0].wait_closed()
    assert text_of(page) == "As far as this"
    expect(answer(page)).to_contain_text("Stopped.")
    page.reload()
    wait_for_end(page, "stopped")
    assert text_of(page) == "As far as this"


def test_stop_after_a_reload_of_the_server_stops_listening(
    visits: Visits, serve: Serve, dictation: Dictation
) -> None:
    """The new worker does not know the answer that the old one writes."""
    visits.requests_may_fail = True
    server = serve()
    page = visits.open(server.url)
    ask(page, "Go on for ever")
    dictation.say("As far as this")
    wait_for_text(page, "As far as this")
    old = server.workers
    server.signal(signal.SIGHUP)
    poll(lambda: set(server.workers) - set(old))
    poll(lambda: Client(server.url).get("/healthz").status == 200)
    hook(page, "submit").click()
    wait_for_end(page, "stopped")
    assert text_of(page) == "As far as this"
    expect(answer(page)).to_contain_text("Stopped.")


def test_a_reload_in_mid_answer_finds_the_running_answer(
    visits: Visits, serve: Serve, upstream: FakeUpstream, dictation: Dictation
) -> None:
    page = visits.open(serve().url)
    ask(page, "Tell me")
    dictation.say("First 一, ")
    wait_for_text(page, "First 一, ")
    page.reload()
    wait_for_text(page, "First 一, ")
    expect(hook(page, "question")).to_have_count(1)
    dictation.say("then the rest\n\n😀.")
    dictation.end()
    wait_for_end(page)
    assert text_of(page) == "First 一, then the rest\n\n😀."
    assert len(upstream.calls) == 1


def test_a_cut_connection_resumes_without_a_gap(
    visits: Visits, relay: Relay, upstream: FakeUpstream, dictation: Dictation
) -> None:
    visits.requests_may_fail = True
    page = visits.open(relay.url)
    ask(page, "Count")
    said = ""
    for number in range(3):
        dictation.say(f"{number}a ")
        said += f"{number}a "
        wait_for_text(page, said)
        relay.refuse()
        dictation.say(f"{number}b ")
        said += f"{number}b "
        expect(hook(page, "status")).to_have_text("Connection lost, trying again…")
        relay.refuse(False)
        wait_for_text(page, said)
        expect(hook(page, "status")).to_be_empty()
    dictation.end()
    wait_for_end(page)
    assert text_of(page) == said
    assert len(upstream.calls) == 1


def test_a_proxy_error_ends_the_event_source_but_not_the_answer(
    visits: Visits, serve: Serve, upstream: FakeUpstream, dictation: Dictation
) -> None:
    visits.requests_may_fail = True
    page = visits.open(serve().url)
    page.route("**/events*", lambda route: route.fulfill(status=502, body="Bad Gateway"), times=2)
    ask(page, "Hello?")
    dictation.say("Still ", "here.")
    wait_for_text(page, "Still here.")
    dictation.end()
    wait_for_end(page)
    assert text_of(page) == "Still here."
    assert len(upstream.calls) == 1


def test_an_answer_that_ended_unseen_is_shown_whole(
    visits: Visits, serve: Serve, dictation: Dictation
) -> None:
    visits.requests_may_fail = True
    page = visits.open(serve().url)
    page.route("**/events*", lambda route: route.fulfill(status=503, body="no"))
    ask(page, "Hello?")
    dictation.say("All of it.")
    dictation.end()
    wait_for_end(page)
    assert text_of(page) == "All of it."


def test_a_restarted_server_has_forgotten_the_answer_but_the_page_has_not(
    visits: Visits, serve: Serve, relay: Relay, upstream: FakeUpstream, dictation: Dictation
) -> None:
    visits.requests_may_fail = True
    first = serve()
    relay.target = first.port
    page = visits.open(relay.url)
    ask(page, "Tell me all")
    dictation.say("Half of the answer")
    wait_for_text(page, "Half of the answer")
    first.kill()
    relay.cut()
    relay.target = serve().port
    wait_for_end(page, "gone")
    assert text_of(page) == "Half of the answer"
    expect(answer(page)).to_contain_text("The server no longer has this answer.")
    visits.picture(page, "gone")
    upstream.script = speak("The whole ", "answer.")
    answer(page).get_by_role("button", name="Ask again").click()
    wait_for_end(page)
    assert text_of(page) == "The whole answer."
    expect(hook(page, "answer").first).to_contain_text("Half of the answer")
    expect(hook(page, "aside")).to_contain_text("Here a new one begins")
    assert upstream.calls[-1].prompt == "Tell me all"


def test_a_question_asked_while_the_server_is_away_is_asked_once(
    visits: Visits, relay: Relay, upstream: FakeUpstream
) -> None:
    visits.requests_may_fail = True
    page = visits.open(relay.url)
    expect(hook(page, "submit")).to_have_attribute("aria-label", "Send")
    relay.refuse()
    ask(page, "Anybody there?")
    expect(hook(page, "status")).to_have_text("Connection lost, trying again…")
    relay.refuse(False)
    wait_for_end(page)
    assert text_of(page) == "Hello world."
    assert len(upstream.calls) == 1


def test_a_reply_lost_on_its_way_does_not_ask_twice(
    visits: Visits, serve: Serve, upstream: FakeUpstream
) -> None:
    visits.requests_may_fail = True
    page = visits.open(serve().url)

    def lose_reply(route: Route) -> None:
        route.fetch()
        route.abort()

    page.route("**/api/chat", lose_reply, times=1)
    ask(page, "Once, please")
    wait_for_end(page)
    assert text_of(page) == "Hello world."
    expect(hook(page, "question")).to_have_count(1)
    assert len(upstream.calls) == 1


def test_a_question_given_up_and_sent_again_is_asked_once(
    visits: Visits, serve: Serve, upstream: FakeUpstream
) -> None:
    visits.requests_may_fail = True
    page = visits.open(serve().url)

    def lose_reply(route: Route) -> None:
        route.fetch()
        route.abort()

    page.route("**/api/chat", lose_reply)
    ask(page, "Once, please")
    expect(hook(page, "status")).to_have_text("Connection lost, trying again…")
    hook(page, "submit").click()
    expect(hook(page, "box")).to_have_value("Once, please")
    expect(hook(page, "question")).to_have_count(0)
    page.unroute("**/api/chat")
    hook(page, "box").press("Enter")
    wait_for_end(page)
    assert text_of(page) == "Hello world."
    assert len(upstream.calls) == 1


def test_a_refused_question_comes_back_into_the_box(
    visits: Visits, serve: Serve, upstream: FakeUpstream
) -> None:
    visits.requests_may_fail = True
    upstream.script = lambda call: call.refuse(429, Retry_After="20")
    page = visits.open(serve().url)
    ask(page, "Are you free?")
    expect(hook(page, "status")).to_contain_text("try again", ignore_case=True)
    expect(hook(page, "box")).to_have_value("Are you free?")
    expect(hook(page, "question")).to_have_count(0)
    upstream.script = speak("Yes.")
    hook(page, "box").press("Enter")
    wait_for_end(page)
    assert text_of(page) == "Yes."
    expect(hook(page, "status")).to_be_empty()


def test_a_failed_answer_keeps_its_text_and_can_be_asked_again(
    visits: Visits, serve: Serve, upstream: FakeUpstream
) -> None:
    def broken(call: Call) -> None:
        call.head()
        call.text("So far, ")
        call.cut()

    upstream.script = broken
    page = visits.open(serve().url)
    ask(page, "Try")
    wait_for_end(page, "failed")
    assert text_of(page) == "So far, "
    visits.picture(page, "failed")
    upstream.script = speak("so good.")
    answer(page).get_by_role("button", name="Ask again").click()
    wait_for_end(page)
    assert text_of(page) == "so good."
    expect(hook(page, "answer")).to_have_count(1)
    expect(hook(page, "question")).to_have_count(1)
    page.reload()
    wait_for_end(page)
    assert text_of(page) == "so good."
    expect(hook(page, "answer")).to_have_count(1)


@pytest.mark.parametrize("event", [{"isComposing": True}, {"keyCode": 229}])
def test_enter_that_ends_a_composition_sends_nothing(
    visits: Visits, serve: Serve, upstream: FakeUpstream, event: dict[str, object]
) -> None:
    page = visits.open(serve().url)
    hook(page, "box").fill("nihao")
    default_kept = hook(page, "box").evaluate(
        "(box, init) => box.dispatchEvent(new KeyboardEvent('keydown',"
        " {key: 'Enter', bubbles: true, cancelable: true, ...init}))",
        event,
    )
    assert default_kept, "the Enter belongs to the input method"
    expect(hook(page, "box")).to_have_value("nihao")
    hook(page, "box").press("Shift+Enter")
    expect(hook(page, "box")).to_have_value("nihao\n")
    hook(page, "box").press("Enter")
    wait_for_end(page)
    assert [call.prompt for call in upstream.calls] == ["nihao\n"]


def test_hostile_text_stays_text(visits: Visits, serve: Serve, upstream: FakeUpstream) -> None:
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>\u2028&lt;b&gt;"
    upstream.script = speak(*hostile)
    page = visits.open(serve().url)
    page.on("dialog", lambda dialog: pytest.fail(f"script ran: {dialog.message}"))
    ask(page, hostile)
    wait_for_end(page)
    assert text_of(page) == hostile
    expect(hook(page, "question")).to_contain_text(hostile)
    assert page.locator("main img, main script").count() == 0
    page.reload()
    wait_for_end(page)
    assert text_of(page) == hostile


def test_reasoning_is_folded_away_beside_the_answer(
    visits: Visits, serve: Serve, upstream: FakeUpstream
) -> None:
    def think(call: Call) -> None:
        call.head()
        call.text("Let me see.", field="reasoning_content")
        call.text("42")
        call.finish()

    upstream.script = think
    page = visits.open(serve().url)
    ask(page, "?")
    wait_for_end(page)
    assert text_of(page) == "42"
    expect(page.get_by_text("Let me see.")).to_be_hidden()
    page.get_by_text("Reasoning").click()
    expect(page.get_by_text("Let me see.")).to_be_visible()


def test_a_long_answer_is_followed_until_the_reader_scrolls_up(
    visits: Visits, serve: Serve, dictation: Dictation
) -> None:
    page = visits.open(serve().url)
    scroller = hook(page, "scroller")
    to_end = "e => e.scrollHeight - e.scrollTop - e.clientHeight"
    ask(page, "At length")
    dictation.say(LONG)
    wait_for_text(page, LONG)
    poll_in(page, lambda: scroller.evaluate(to_end) < 2)
    scroller.hover()
    page.mouse.wheel(0, -400)
    poll_in(page, lambda: scroller.evaluate(to_end) > 300)
    place = scroller.evaluate("e => e.scrollTop")
    dictation.say(LONG)
    wait_for_text(page, LONG + LONG)
    poll_in(page, lambda: scroller.evaluate("e => e.scrollTop") <= place)
    dictation.end()
    wait_for_end(page)
    assert scroller.evaluate("e => e.scrollTop") <= place
    page.reload()
    wait_for_end(page)
    assert text_of(page) == LONG + LONG


@pytest.mark.parametrize(
    ("locale", "language", "send"),
    [("zh-CN", "zh-CN", "发送"), ("en-GB", "en", "Send"), ("fr-FR", "en", "Send")],
)
def test_the_page_speaks_the_readers_language(
    visits: Visits, serve: Serve, locale: str, language: str, send: str
) -> None:
    page = visits.open(serve().url, locale=locale, size=(390, 844))
    expect(hook(page, "submit")).to_have_attribute("aria-label", send)
    assert page.evaluate("document.documentElement.lang") == language
    visits.picture(page, f"language-{locale}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_never_scrolls_sideways(
    visits: Visits, serve: Serve, upstream: FakeUpstream, width: int, scheme: str
) -> None:
    upstream.script = speak("no-break-" * 40, "\n" + "无" * 200)
    server = serve(CHATAPP_MODELS="fake-model,another-model-with-a-rather-long-name")
    page = visits.open(server.url, size=(width, 640), scheme=scheme)
    ask(page, "w" * 300)
    wait_for_end(page)
    hook(page, "box").fill("m" * 300)
    for element in ("document.documentElement", "document.querySelector('main')"):
        assert page.evaluate(f"{element}.scrollWidth <= {element}.clientWidth")
    visits.picture(page, f"phone-{width}-{scheme}")


def test_models_can_be_chosen_where_there_are_several(
    visits: Visits, serve: Serve, upstream: FakeUpstream
) -> None:
    page = visits.open(serve(CHATAPP_MODELS="fake-model,other-model").url)
    hook(page, "models").select_option("other-model")
    ask(page, "Who are you?")
    wait_for_end(page)
    assert upstream.calls[0].json["model"] == "other-model"


def test_one_model_is_no_choice(visits: Visits, serve: Serve, upstream: FakeUpstream) -> None:
    page = visits.open(serve().url)
    ask(page, "Who are you?")
    wait_for_end(page)
    expect(hook(page, "models")).to_be_hidden()
    assert upstream.calls[0].json["model"] == "fake-model"


def test_without_a_model_the_page_says_what_to_do(visits: Visits, serve: Serve) -> None:
    visits.requests_may_fail = True
    page = visits.open(serve(upstream=None, CHATAPP_LOCAL_MODEL="0").url)
    expect(hook(page, "notice")).to_contain_text("OPENAI_API_KEY")
    ask(page, "Hello?")
    expect(hook(page, "status")).to_contain_text("OPENAI_API_KEY")
    expect(hook(page, "notice")).to_be_hidden()
    expect(hook(page, "greeting")).to_be_visible()
    expect(hook(page, "box")).to_have_value("Hello?")


def test_an_unknown_conversation_offers_a_new_one(
    visits: Visits, serve: Serve, upstream: FakeUpstream
) -> None:
    visits.requests_may_fail = True
    page = visits.open(serve().url + "/c/nobody-has-this")
    expect(hook(page, "aside")).to_contain_text("does not exist")
    hook(page, "aside").get_by_role("button", name="New chat").click()
    expect(hook(page, "greeting")).to_be_visible()
    ask(page, "Hello")
    wait_for_end(page)
    assert len(upstream.calls) == 1


def test_new_chat_and_back(visits: Visits, serve: Serve, dictation: Dictation) -> None:
    page = visits.open(serve().url)
    ask(page, "Slowly")
    dictation.say("A slow ")
    wait_for_text(page, "A slow ")
    hook(page, "new").click()
    expect(hook(page, "greeting")).to_be_visible()
    expect(hook(page, "answer")).to_have_count(0)
    expect(hook(page, "submit")).to_have_attribute("aria-label", "Send")
    dictation.say("answer.")
    page.go_back()
    wait_for_text(page, "A slow answer.")
    dictation.end()
    wait_for_end(page)


def test_the_page_is_small() -> None:
    """All of its own script and style, before compression."""
    files = [*(ROOT / "chatapp/static").glob("*.js"), *(ROOT / "chatapp/static").glob("*.css")]
    assert len(files) > 1
    assert sum(file.stat().st_size for file in files) < 60_000
