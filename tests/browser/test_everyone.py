"""The page for everyone: languages, colours, sizes, keyboards and screen readers."""

import json
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from chatapp.errors import CODES
from chatapp.views.page import TEXTS
from tests.support.browser import Visits
from tests.support.pages import ask, converse, does, hook, wait_for_end
from tests.support.shared_server import Site
from tests.support.upstream import speak

ANSWER = (
    "# A heading\n\nA paragraph with **bold** words, `code` and [a link](https://example.org).\n\n"
    "1. one\n2. two\n\n> A quote.\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n"
    "```python\nprint('hello')\n```\n\n中文也可以。"
)
SIZES = {"phone": (390, 844), "desktop": (1280, 800)}
LABELS = {"en-US": ("Menu", "Options"), "zh-CN": ("菜单", "选项")}


def check(page: Page, state: str) -> None:
    """No rule of axe-core is broken, in this state."""
    found = Axe().run(page)
    broken = [(each["id"], each["help"], each["nodes"]) for each in found.response["violations"]]
    assert broken == [], f"{state}: {json.dumps(broken, indent=1)}"


@pytest.mark.parametrize("locale", LABELS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", SIZES)
def test_axe_finds_no_violation_and_pictures_are_taken(
    visits: Visits, site: Site, device: str, scheme: str, locale: str
) -> None:
    name = f"{device}-{scheme}-{locale[:2]}"
    page = visits.open(
        site.url,
        locale=locale,
        scheme=scheme,
        size=SIZES[device],
        motion="reduce",
        bypass_csp=True,  # axe-core puts a style into the page.
    )
    expect(hook(page, "greeting")).to_be_visible()
    check(page, "empty")
    visits.picture(page, f"{name}-empty")
    site.upstream.script = speak(ANSWER)
    converse(page, "Show me everything you can do, please.")
    expect(hook(page, "list").locator("li")).to_have_count(1)
    check(page, "answered")
    visits.picture(page, f"{name}-answer")
    if device == "phone":
        does(page, "toggle").click()
        check(page, "list")
        visits.picture(page, f"{name}-list")
        page.keyboard.press("Escape")
        expect(hook(page, "sidebar")).to_be_hidden()
    menu, options = LABELS[locale]
    hook(page, "bar").get_by_role("button", name=menu).click()
    check(page, "menu")
    page.get_by_role("button", name=options, exact=True).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    check(page, "options")
    visits.picture(page, f"{name}-options")


@pytest.mark.parametrize(
    ("locale", "language", "send"),
    [("zh-CN", "zh-CN", "发送"), ("en-GB", "en", "Send"), ("fr-FR", "en", "Send")],
)
def test_the_page_speaks_the_readers_language(
    visits: Visits, site: Site, locale: str, language: str, send: str
) -> None:
    page = visits.open(site.url, locale=locale)
    expect(hook(page, "submit")).to_have_attribute("aria-label", send)
    assert page.evaluate("document.documentElement.lang") == language


def options(page: Page, menu: str, item: str) -> None:
    hook(page, "bar").get_by_role("button", name=menu).click()
    page.get_by_role("button", name=item, exact=True).click()


def test_language_and_appearance_can_be_switched_and_are_kept(visits: Visits, site: Site) -> None:
    site.upstream.script = speak("Still here.")
    page = visits.open(site.url)
    converse(page, "Switch")
    hook(page, "box").fill("a draft")

    def background() -> str:
        return str(hook(page, "root").evaluate("e => getComputedStyle(e).backgroundColor"))

    light = background()
    options(page, "Menu", "Options")
    page.get_by_label("Appearance").select_option("Dark")
    dark = background()
    assert dark != light
    page.get_by_label("Language").select_option("简体中文")
    expect(hook(page, "submit")).to_have_attribute("aria-label", "发送")
    expect(hook(page, "answer")).to_contain_text("Still here.")
    expect(hook(page, "box")).to_have_value("a draft")
    page.reload()
    expect(hook(page, "submit")).to_have_attribute("aria-label", "发送")
    assert background() == dark


def test_everything_is_reached_by_keyboard(visits: Visits, site: Site) -> None:
    site.upstream.script = speak("By keyboard.")
    page = visits.open(site.url)
    expect(hook(page, "box")).to_be_focused()
    page.keyboard.type("Only keys")
    page.keyboard.press("Enter")
    wait_for_end(page)
    expect(hook(page, "list").locator("li")).to_have_count(1)
    focused = """() => {
      let at = document.activeElement;
      while (at.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
      return at.dataset.do || at.dataset.chat || at.localName;
    }"""
    reached: list[Any] = []
    for _ in range(24):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(focused))
    for what in ("new", "toggle", "search", "open", "pick", "models", "scroller"):
        assert what in reached
    for what in ("edit", "copy", "regenerate", "box", "submit"):
        assert what in reached
    # A menu is opened, walked and left, and the focus is back.
    hook(page, "rowMore").focus()
    page.keyboard.press("Enter")
    assert page.evaluate(focused) == "rename"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "export"
    page.keyboard.press("Escape")
    assert page.evaluate(focused) == "pick"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_never_scrolls_sideways(
    visits: Visits, site: Site, width: int, scheme: str
) -> None:
    site.upstream.script = speak("no-break-" * 40, "\n" + "无" * 200 + "\n\n```\n" + "x" * 300)
    page = visits.open(site.url, size=(width, 640), scheme=scheme)
    ask(page, "w" * 300)
    wait_for_end(page)
    hook(page, "box").fill("m" * 300)
    fits = "e => e.scrollWidth <= e.clientWidth"
    for each in (page.locator("html"), hook(page, "scroller"), hook(page, "bar")):
        assert each.evaluate(fits)
    visits.picture(page, f"narrow-{width}-{scheme}")


def test_reduced_motion_is_kept(visits: Visits, site: Site) -> None:
    still = visits.open(site.url, motion="reduce")
    site.upstream.script = lambda call: call.over.wait(3)
    ask(still, "Do not move")
    dot = "e => getComputedStyle(e, '::after').animationName"
    answer = hook(hook(still, "answer"), "text")
    assert answer.evaluate(dot) == "none"
    moving = visits.open(site.url)
    ask(moving, "Do move")
    assert hook(hook(moving, "answer"), "text").evaluate(dot) == "breathe"


def test_one_model_is_no_choice(visits: Visits, site: Site) -> None:
    page = visits.open(site.url)
    expect(hook(page, "models")).to_be_visible()
    page.route(
        "**/api/models",
        lambda route: route.fulfill(
            json={"models": [{"id": "only"}], "default": "only", "notice": None}
        ),
    )
    page.reload()
    expect(hook(page, "submit")).to_be_visible()
    expect(hook(page, "models")).to_be_hidden()


def test_every_error_is_said_in_chinese_too() -> None:
    """English sentences come from the server; what a host's hooks say stays as they say it."""
    said = TEXTS["zh-CN"]["script"]["errors"]
    assert set(CODES) - set(said) == {"refused", "moderated"}


def test_both_languages_say_the_same() -> None:
    def keys(texts: dict[str, Any]) -> set[str]:
        return {f"{part}.{key}" for part in ("page", "script") for key in texts[part]}

    assert keys(TEXTS["en"]) == keys(TEXTS["zh-CN"])
    assert TEXTS["en"]["script"]["endings"].keys() == TEXTS["zh-CN"]["script"]["endings"].keys()
