"""Never lost: whatever happens to the connection, the page, the server or what is between."""

from playwright.sync_api import Request, Route, expect

from tests.support.browser import Relay, Visits
from tests.support.pages import (
    HIDEABLE,
    Dictation,
    Serve,
    answer,
    ask,
    converse,
    hook,
    lose_reply,
    poll_in,
    text_of,
    wait_for_end,
    wait_for_text,
)
from tests.support.shared_server import Site
from tests.support.upstream import FakeUpstream, speak

LOST = "Connection lost. Reconnecting…"


def test_a_reload_in_mid_answer_finds_the_running_answer(
    visits: Visits, site: Site, dictation: Dictation
) -> None:
    page = visits.open(site.url)
    ask(page, "Reload in the middle")
    dictation.say("First 一, ")
    wait_for_text(page, "First 一, ")
    page.reload()
    wait_for_text(page, "First 一, ")
    expect(hook(page, "question")).to_have_count(1)
    dictation.say("then the rest 😀.")
    dictation.end()
    wait_for_end(page)
    assert text_of(page) == "First 一, then the rest 😀."
    assert len(site.upstream.calls_for("Reload in the middle")) == 1


def test_a_cut_connection_resumes_without_a_gap(
    visits: Visits, relay: Relay, site: Site, dictation: Dictation
) -> None:
    visits.requests_may_fail = True
    page = visits.open(relay.url)
    ask(page, "Count through cuts")
    said = ""
    for number in range(2):
        dictation.say(f"{number}a ")
        said += f"{number}a "
        wait_for_text(page, said)
        relay.refuse()
        dictation.say(f"{number}b ")
        said += f"{number}b "
        expect(hook(page, "status")).to_have_text(LOST)
        visits.picture(page, "lost")
        relay.refuse(False)
        wait_for_text(page, said)
        expect(hook(page, "status")).to_be_empty()
    dictation.end()
    wait_for_end(page)
    assert text_of(page).strip() == said.strip()
    assert len(site.upstream.calls_for("Count through cuts")) == 1


def test_a_proxy_error_ends_the_event_source_but_not_the_answer(
    visits: Visits, site: Site, dictation: Dictation
) -> None:
    visits.requests_may_fail = True
    page = visits.open(site.url)
    tries: list[Route] = []

    def fail_thrice(route: Route) -> None:
        tries.append(route)
        if len(tries) <= 3:
            route.fulfill(status=502, body="Bad Gateway")
        else:
            route.continue_()

    page.route("**/answers/*/events*", fail_thrice)
    ask(page, "Through a bad gateway")
    dictation.say("Still ", "here.")
    wait_for_text(page, "Still here.")
    poll_in(page, lambda: len(tries) == 4)
    dictation.say(" And live.")
    wait_for_text(page, "Still here. And live.")
    dictation.end()
    wait_for_end(page)
    assert len(site.upstream.calls_for("Through a bad gateway")) == 1


def test_an_answer_that_ended_unseen_is_shown_whole(
    visits: Visits, site: Site, dictation: Dictation
) -> None:
    visits.requests_may_fail = True
    page = visits.open(site.url)
    page.route("**/answers/*/events*", lambda route: route.fulfill(status=503, body="no"))
    ask(page, "Unseen")
    dictation.say("All of it.")
    dictation.end()
    wait_for_end(page)
    assert text_of(page) == "All of it."


def test_what_holds_the_stream_back_is_noticed_and_got_around(
    visits: Visits, site: Site, dictation: Dictation
) -> None:
    page = visits.open(site.url)
    # Headers and events never come through, everything else does.
    page.route("**/answers/*/events*", lambda _: None)
    ask(page, "Through a buffer")
    dictation.say("Step one, ")
    expect(hook(page, "status")).to_contain_text("holds the answer back")
    wait_for_text(page, "Step one, ")
    visits.picture(page, "buffered")
    dictation.say("step two.")
    wait_for_text(page, "Step one, step two.")
    dictation.end()
    wait_for_end(page)
    expect(hook(page, "status")).to_be_empty()


def test_a_model_that_thinks_long_is_not_taken_for_a_buffer(
    visits: Visits, site: Site, dictation: Dictation
) -> None:
    page = visits.open(site.url)
    snapshots: list[Request] = []
    page.on("request", lambda each: snapshots.append(each) if is_snapshot(each) else None)
    page.clock.install()
    ask(page, "Think for long")
    expect(answer(page)).to_have_attribute("data-state", "waiting")
    poll_in(page, lambda: page.clock.run_for(2000) or len(snapshots) >= 1)
    page.clock.run_for(3000)
    expect(hook(page, "status")).to_be_empty()
    dictation.say("At last.")
    dictation.end()
    poll_in(page, lambda: page.clock.run_for(100) or text_of(page) == "At last.")


def is_snapshot(request: Request) -> bool:
    return "/api/answers/" in request.url and not request.url.endswith("/events")


def test_a_hidden_tab_holds_no_answer_connection_and_catches_up(
    visits: Visits, site: Site, dictation: Dictation
) -> None:
    visits.requests_may_fail = True
    page = visits.open(site.url, script=HIDEABLE)
    ask(page, "While you are away")
    dictation.say("Seen. ")
    wait_for_text(page, "Seen. ")
    before = site.metric("readers")
    page.evaluate("show('hidden')")
    site.wait_for_readers(before - 1)
    dictation.say("Unseen.")
    page.evaluate("show('visible')")
    wait_for_text(page, "Seen. Unseen.")
    page.evaluate("show('hidden')")
    dictation.end()
    page.evaluate("show('visible')")
    wait_for_end(page)


def test_a_page_from_the_back_forward_cache_goes_on(
    visits: Visits, site: Site, dictation: Dictation
) -> None:
    visits.requests_may_fail = True
    page = visits.open(site.url)
    ask(page, "Back and forward")
    dictation.say("One, ")
    wait_for_text(page, "One, ")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))")
    dictation.say("two.")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    wait_for_text(page, "One, two.")
    dictation.end()
    wait_for_end(page)
    # The push channel lives again, too.
    other = visits.tab(page.context, site.url)
    site.upstream.script = speak("From the other tab.")
    converse(other, "Elsewhere")
    expect(hook(page, "list").locator("li")).to_have_count(2)


def test_seven_tabs_work_over_http_1(visits: Visits, site: Site) -> None:
    """A browser opens six connections to a server: one is for pushing, and one for what is seen."""
    visits.requests_may_fail = True
    first = visits.open(site.url, script=HIDEABLE)
    tabs = [first]
    for number in range(7):
        if number:
            tabs.append(visits.tab(first.context, site.url))
        page = tabs[-1]
        site.upstream.script = script = Dictation()
        ask(page, f"Tab {number}")
        script.say(f"In {number}, ")
        wait_for_text(page, f"In {number}, ")
        page.evaluate("show('hidden')")
        script.say("and on.")
        script.end()
    for number, page in enumerate(tabs):
        page.evaluate("show('visible')")
        wait_for_end(page)
        assert text_of(page) == f"In {number}, and on."
        page.evaluate("show('hidden')")
    site.wait_for_readers(0)


def test_one_push_connection_serves_all_tabs_and_passes_on(visits: Visits, site: Site) -> None:
    visits.requests_may_fail = True
    first = visits.open("about:blank")
    pushes: list[Request] = []
    first.context.on(
        "request", lambda each: pushes.append(each) if each.url.endswith("/api/events") else None
    )
    first.goto(site.url)
    poll_in(first, lambda: len(pushes) == 1)
    tabs = [visits.tab(first.context, site.url) for _ in range(2)]
    for page in tabs:
        expect(hook(page, "list")).to_have_text("No conversations yet.")
    assert len(pushes) == 1
    first.close()
    poll_in(tabs[0], lambda: len(pushes) == 2)
    site.upstream.script = speak("Heard.")
    converse(tabs[0], "Does the next one listen?")
    expect(hook(tabs[1], "list").locator("li")).to_have_count(1)


def test_the_push_channel_comes_back_after_an_http_error(visits: Visits, site: Site) -> None:
    visits.requests_may_fail = True
    page = visits.open(f"{site.url}/healthz")
    tries: list[Route] = []

    def fail_twice(route: Route) -> None:
        tries.append(route)
        if len(tries) <= 2:
            route.fulfill(status=503, body="no")
        else:
            route.continue_()

    page.route("**/api/events*", fail_twice)
    page.goto(site.url)
    poll_in(page, lambda: len(tries) == 3)
    other = visits.tab(page.context, site.url)
    site.upstream.script = speak("Heard.")
    converse(other, "After the error")
    expect(hook(page, "list").locator("li")).to_have_count(1)


def test_a_question_asked_while_the_server_is_away_is_asked_once(
    visits: Visits, relay: Relay, site: Site
) -> None:
    visits.requests_may_fail = True
    site.upstream.script = speak("Hello.")
    page = visits.open(relay.url)
    expect(hook(page, "submit")).to_have_attribute("aria-label", "Send")
    relay.refuse()
    ask(page, "Anybody there?")
    expect(hook(page, "status")).to_have_text(LOST)
    relay.refuse(False)
    wait_for_end(page)
    assert text_of(page) == "Hello."
    assert len(site.upstream.calls_for("Anybody there?")) == 1


def test_a_reply_lost_on_its_way_does_not_ask_twice(visits: Visits, site: Site) -> None:
    visits.requests_may_fail = True
    site.upstream.script = speak("Hello.")
    page = visits.open(site.url)
    page.route("**/api/chat", lose_reply, times=1)
    ask(page, "Once, please")
    wait_for_end(page)
    assert text_of(page) == "Hello."
    expect(hook(page, "question")).to_have_count(1)
    assert len(site.upstream.calls_for("Once, please")) == 1


def test_a_question_given_up_and_sent_again_is_asked_once(visits: Visits, site: Site) -> None:
    visits.requests_may_fail = True
    site.upstream.script = speak("Hello.")
    page = visits.open(site.url)
    page.route("**/api/chat", lose_reply)
    ask(page, "Once again, please")
    expect(hook(page, "status")).to_have_text(LOST)
    hook(page, "submit").click()
    expect(hook(page, "box")).to_have_value("Once again, please")
    expect(hook(page, "question")).to_have_count(0)
    page.unroute("**/api/chat")
    hook(page, "box").press("Enter")
    wait_for_end(page)
    assert text_of(page) == "Hello."
    assert len(site.upstream.calls_for("Once again, please")) == 1


def test_an_unknown_conversation_offers_a_new_one(visits: Visits, site: Site) -> None:
    visits.requests_may_fail = True
    site.upstream.script = speak("Hello.")
    page = visits.open(site.url + "/c/nobody-has-this")
    expect(hook(page, "aside")).to_contain_text("does not exist")
    hook(page, "aside").get_by_role("button", name="New chat").click()
    expect(hook(page, "greeting")).to_be_visible()
    converse(page, "Hello")


def test_without_a_model_the_page_says_what_to_do(visits: Visits, serve: Serve) -> None:
    visits.requests_may_fail = True
    page = visits.open(serve(upstream=None, CHATAPP_LOCAL_MODEL="0").url)
    expect(hook(page, "notice")).to_contain_text("OPENAI_API_KEY")
    ask(page, "Hello?")
    expect(hook(page, "status")).to_contain_text("OPENAI_API_KEY")
    expect(hook(page, "notice")).to_be_hidden()
    expect(hook(page, "greeting")).to_be_visible()
    expect(hook(page, "box")).to_have_value("Hello?")


def test_a_server_that_restarts_leaves_what_was_read(
    visits: Visits, serve: Serve, relay: Relay, upstream: FakeUpstream, dictated: Dictation
) -> None:
    """What becomes of the answer is the server's to say; the text stays, and can be asked again."""
    visits.requests_may_fail = True
    first = serve()
    relay.target = first.port
    page = visits.open(relay.url)
    ask(page, "Tell me all")
    dictated.say("Half of the answer")
    wait_for_text(page, "Half of the answer")
    first.kill()
    relay.cut()
    upstream.script = speak("The whole ", "answer.")
    relay.target = serve().port
    expect(answer(page)).not_to_have_attribute("aria-busy", "true")
    assert text_of(page) == "Half of the answer"
    again = answer(page).get_by_role("button", name="Ask again")
    if again.is_visible():
        again.click()
    wait_for_text(page, "The whole answer.")
