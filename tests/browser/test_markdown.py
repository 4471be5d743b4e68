"""Markdown on the page: the reference's structure, however it comes, in linear time, and safe."""

import os
import re
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import Visits, chromium
from tests.support.gunicorn import ROOT
from tests.support.hypothesis_settings import FEW, parts_of
from tests.support.markdown_reference import reference, shape, spec_examples, static_server

# Draws each text in one go, and again in pieces, each drawn as it comes.
RENDER = """async (jobs) => {
  const { createMarkdown } = await import("/markdown/markdown.js");
  const home = document.querySelector("main");
  return jobs.map((pieces) => {
    home.replaceChildren();
    let run = () => {};
    const texts = { copy: "Copy", copied: "Copied" };
    const markdown = createMarkdown(home, { texts, schedule: (next) => { run = next; } });
    for (const piece of pieces) { markdown.append(piece); run(); }
    let isOver = false;
    markdown.end(() => { isOver = true; });
    while (!isOver) run();
    return home.innerHTML;
  });
}"""
COUNT = """async (pieces) => {
  const { createMarkdown } = await import("/markdown/markdown.js");
  const home = document.querySelector("main");
  home.replaceChildren();
  let scanned = 0;
  const { exec } = RegExp.prototype;
  RegExp.prototype.exec = function (text) {
    const from = this.lastIndex;
    const found = exec.call(this, text);
    scanned += this.sticky ? (found ? found[0].length : 1) : (found?.index ?? text.length);
    return found;
  };
  let written = 0;
  const seen = new MutationObserver(() => {});
  seen.observe(home, { childList: true, characterData: true, subtree: true });
  let run = () => {};
  const markdown = createMarkdown(home, { schedule: (next) => { run = next; } });
  for (const piece of pieces) {
    markdown.append(piece);
    run();
    for (const { addedNodes } of seen.takeRecords()) {
      written += 1;
      for (const node of addedNodes) written += node.textContent.length;
    }
  }
  let isOver = false;
  markdown.end(() => { isOver = true; });
  while (!isOver) run();
  RegExp.prototype.exec = exec;
  seen.disconnect();
  return [scanned, written];
}"""
# Whatever the text, nothing else is ever on the page.
ALLOWED = """() => {
  const tags = new Set(("DIV P H1 H2 H3 H4 H5 H6 UL OL LI BLOCKQUOTE HR PRE CODE SPAN FIGURE " +
    "FIGCAPTION BUTTON TABLE THEAD TBODY TR TH TD EM STRONG DEL A BR").split(" "));
  const names = new Set(("data-chat dir href rel target title start type tabindex data-loose " +
    "data-align data-language").split(" "));
  const wrong = [];
  for (const each of document.querySelectorAll("main *")) {
    if (!tags.has(each.tagName)) wrong.push(each.outerHTML);
    for (const { name } of each.attributes) if (!names.has(name)) wrong.push(each.outerHTML);
    if (each.tagName !== "A") continue;
    const safe = each.rel === "noopener noreferrer nofollow" && each.target === "_blank";
    if (!safe || !/^(https?|mailto):$/.test(each.protocol)) wrong.push(each.outerHTML);
  }
  return wrong;
}"""

# Not as CommonMark has it: empty destinations, LaTeX's brackets are math, rare character names, an
# image without a name shows where it leads.
OTHERWISE = ("]()", "\\(", "\\[\\\\", "&AElig;", "&ouml;", "&auml;", "   - d\n    - e", "![](")

TABLES = [
    "| a | b |\n| :- | -: |\n| 1 | 2 |\n",
    "a | b\n:-: | -\n*1* | `2`\nonly one\n\nafter",
    "text\n| a |\n|---|\n| b | too many |\n> quote",
    "| a \\| b | `c \\| d` |\n|-|-|\n|||\n",
    "- | a | b |\n  |---|---|\n  | 1 | 2 |\n- next",
    "| a |\n|---|---|\n",
    "| a | b |\n|---|---|\n",
    "| a |\n|---|\n# heading\n",
]
OTHERS = [
    "~~gone~~ and a~~b~~c, ~~**both**~~",
    "**bold** *both **inner** out* ***all*** _x_ snake_case_name __dunder__",
    "# one #\n## two ##\n### three \\#\n#not\n####### seven",
    "1. one\n2. two\n   - in\n     - deep\n\n   more\n10. ten\n\n7) other",
    "> quote\nlazy\n> - list\n> \n> ```py\n> code\n",
    "```c++ extra\nint x;\n\n  y\n```\n~~~\n```\n~~~\n\n    indented\n\n    more\n",
    "a  \nb\\\nc\n***\n- - -\n___\nd\n===\ne\n---\n",
    "[a *b*](https://h/x_(y) 'title') ![p **q**](https://h/i.png) <https://h/z> <me@h.org>",
    "[rel](/x) [js](javascript:alert(1)) <ftp://h/> <b>raw</b> &amp; &#x41; &#0; &copy; &nope;",
    "`` a`b `` ` ` ` c ` `unclosed",
]
OWN = {
    "- [ ] open\n- [x] done\n- [y] no": "<ul><li><span>☐</span> open</li>"
    "<li><span>☑</span> done</li><li>[y] no</li></ul>",
    "**说明（重要）**后面": "<p><strong>说明（重要）</strong>后面</p>",
    "他说**“你好”**吧": "<p>他说<strong>“你好”</strong>吧</p>",
    "see https://h.org/a_b_c?d=*. (https://h/x)": '<p>see <a href="https://h.org/a_b_c?d=">'
    'https://h.org/a_b_c?d=</a>*. (<a href="https://h/x">https://h/x</a>)</p>',
    "见https://h.org/x。然后": '<p>见<a href="https://h.org/x">https://h.org/x</a>。然后</p>',
    "[https://h/a](https://h/b)": '<p><a href="https://h/b">https://h/a</a></p>',
    "$a_1 * b_1$ and \\(x*y*z\\), $5 or $6": "<p><span>$a_1 * b_1$</span> and "
    "<span>\\(x*y*z\\)</span>, $5 or $6</p>",
    "$$\na *b*\n- c\n$$\nd": "<pre><code>$$\na *b*\n- c\n$$</code></pre><p>d</p>",
    "\\[ x_1 + y_1 \\]": "<p><span>\\[ x_1 + y_1 \\]</span></p>",
    "![](https://h/i.png)": '<p><img src="https://h/i.png" alt="https://h/i.png"></p>',
}
HOSTILE = {
    "stars": "*",
    "openers": "*a ",
    "brackets": "[",
    "links": "[a](b ",
    "ticks": "`a",
    "quotes": ">",
    "quoted lines": "> > a\n",
    "markers": "- ",
    "items": "- 1\n",
    "word": "a",
    "paragraph": "Some *words* of a line.\n",
    "code": "    let x;\n",
    "tables": "a|b\n-|-\n",
    "dollars": "$a ",
    "math": "\\( a ",
    "hashes": "# #",
    "entities": "&#35;",
    "angles": "<a ",
    "chinese": "没有空格的**长**段落，",
}
ATTACKS = [
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "[a](javascript:alert(1)) [a](JaVaScRiPt:alert(1)) [a](&#106;avascript:alert(1))",
    "[a](java\tscript:alert(1)) [a](\x01javascript:alert(1)) [a](<java\nscript:alert(1)>)",
    "[a](data:text/html,<script>alert(1)</script>) <javascript:alert(1)> <data:text/html,x>",
    "![x](https://h.invalid/i.png) ![x](data:image/svg+xml,<svg/onload=alert(1)>)",
    "![](//h.invalid/)",
    '[a](https://h/"onclick=alert(1) "t\\" onmouseover=alert(1)") <https://h/"onclick="x>',
    "[a](vbscript:x) [a](file:///etc/passwd) [a](//h.invalid) [a](https:&#47;&#47;h/) [a](http:x)",
    '```"><script>alert(1)</script>\n</code></pre><script>alert(1)</script>\n```',
    "| <img src=x onerror=alert(1)> | [a](javascript:x) |\n|-|-|\n| <svg/onload=alert(1)> | x |",
    "- [ ] <input autofocus onfocus=alert(1)>\n> <iframe src=javascript:alert(1)>",
    "[__proto__](https://h/) &constructor; &__proto__; ```constructor",
    "mailto:x <mailto:a@b.c?subject=x> [m](mailto:&#10;x)",
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with static_server() as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def page(url: str, browser: Browser) -> Iterator[Page]:
    visits = Visits(browser)
    yield visits.open(url)
    visits.close()


@pytest.fixture(scope="module")
def render(page: Page) -> Callable[..., list[str]]:
    return lambda *texts: page.evaluate(RENDER, [[text] for text in texts])


def test_commonmarks_own_examples_have_the_references_structure(
    render: Callable[..., list[str]],
) -> None:
    """With HTML and references as text. Each with links that lead somewhere, too."""
    examples = spec_examples(ROOT / "build" / "commonmark")
    if examples is None:
        if os.environ.get("CI"):
            pytest.fail("CommonMark's examples are not here; install node and npm.")
        pytest.skip("There is no npm to fetch CommonMark's examples with.")
    texts = [each["markdown"] for each in examples]
    texts += [
        text.replace("](/", "](https://h/").replace("](foo", "](https://h/") for text in texts
    ]
    texts = [text for text in dict.fromkeys(texts) if not any(each in text for each in OTHERWISE)]
    assert len(texts) > 660
    compare(texts, render(*texts), bare_links=False)


@pytest.mark.parametrize("texts", [TABLES, OTHERS], ids=["tables", "others"])
def test_own_examples_have_the_references_structure(
    texts: list[str], render: Callable[..., list[str]]
) -> None:
    compare(texts, render(*texts))


def compare(texts: list[str], drawn: list[str], *, bare_links: bool = True) -> None:
    renderer = reference()
    for text, html in zip(texts, drawn, strict=True):
        expected = shape(renderer.render(text), bare_links=bare_links)
        assert shape(html, bare_links=bare_links) == expected, text


@pytest.mark.parametrize("text", OWN)
def test_what_commonmark_does_not_know_is_drawn(
    text: str, render: Callable[..., list[str]]
) -> None:
    assert shape(render(text)[0]) == shape(OWN[text])


@pytest.mark.parametrize("name", ["plain", "*a* b", "**`a`**", "a https://h.org/b c"])
def test_what_an_image_is_called_is_text(name: str, render: Callable[..., list[str]]) -> None:
    [shown] = re.findall(r'data-chat="image"[^>]*>(.*?)</a>', render(f"![{name}](https://h/i)")[0])
    assert shown == re.sub(r"[*`]", "", name)


MARKS = (
    "* ** _ __ ~~ ` `` ``` ~~~ [ ] ( ) ]( ![ < > | # ## - 1. 10) + \\ \\( \\) \\[ \\] $ $$ === "
    "--- |-| |:-:|-| &amp; &#35; h https://h/x_y [a](https://h) <https://h> a|b [x] "
    "foo bar é 中文 。 （ 😀"
)
FRAGMENTS = st.sampled_from(MARKS.split()) | st.sampled_from(
    [" ", "  ", "    ", "\t", "\n", "\n\n", "\r\n", "\r", "\0", "\n- ", "\n> "]
)


@FEW
@given(pieces=st.lists(FRAGMENTS, max_size=60), cuts=st.lists(st.integers(0, 500), max_size=20))
def test_the_pieces_in_which_it_comes_do_not_matter(
    page: Page, pieces: list[str], cuts: list[int]
) -> None:
    text = "".join(pieces)
    whole, cut, single = page.evaluate(RENDER, [[text], parts_of(text, cuts), list(text)])
    assert cut == whole
    assert single == whole


@FEW
@given(
    words=st.lists(st.sampled_from([*HOSTILE.values(), "foo ", "a*b* ", "`c` "]), max_size=12),
    times=st.integers(50, 900),
    size=st.integers(1, 3000),
)
def test_the_pieces_of_a_long_text_do_not_matter(
    page: Page, words: list[str], times: int, size: int
) -> None:
    """Longer than every limit within: of spans, of pieces, of lists, of lines held back."""
    text = "".join(words) * times
    text = text[:40_000]
    size = max(size, len(text) // 100)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    whole, cut = page.evaluate(RENDER, [[text], pieces])
    assert cut == whole


@pytest.mark.parametrize("name", HOSTILE)
def test_twice_the_text_is_twice_the_work(name: str, page: Page) -> None:
    """Counted in characters that expressions scan, and in those that are written."""
    counts = []
    for size in (12_000, 24_000):
        text = (HOSTILE[name] * size)[:size]
        pieces = [text[at : at + 100] for at in range(0, size, 100)]
        counts.append(page.evaluate(COUNT, pieces))
    for once, twice in zip(*counts, strict=True):
        assert twice <= 2.3 * once + 5_000


@pytest.mark.parametrize("text", ATTACKS)
def test_no_text_becomes_anything_but_text(text: str, page: Page, url: str) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    for pieces in ([text], list(text)):
        page.evaluate(RENDER, [pieces])
        assert page.evaluate(ALLOWED) == []
    assert [each for each in requests if not each.startswith(url)] == []


@FEW
@given(pieces=st.lists(FRAGMENTS | st.sampled_from(ATTACKS), max_size=20))
def test_no_mixture_becomes_anything_but_text(page: Page, pieces: list[str]) -> None:
    page.evaluate(RENDER, [["".join(pieces)]])
    assert page.evaluate(ALLOWED) == []


def test_finished_blocks_are_never_touched_again(page: Page) -> None:
    """Only the last block, and what holds it, change; each piece is drawn once."""
    touched = page.evaluate(
        """async (text) => {
      const { createMarkdown } = await import("/markdown/markdown.js");
      const home = document.querySelector("main");
      home.replaceChildren();
      let run = () => {};
      const markdown = createMarkdown(home, { schedule: (next) => { run = next; } });
      const seen = new MutationObserver(() => {});
      const all = { childList: true, characterData: true, attributes: true, subtree: true };
      seen.observe(home, all);
      let touched = 0;
      for (const char of text) {
        const finished = [...home.querySelectorAll("[data-chat=part] > *")].slice(0, -1);
        markdown.append(char);
        run();
        for (const { target } of seen.takeRecords()) {
          touched += finished.some((block) => block !== target && block.contains(target));
        }
      }
      seen.disconnect();
      markdown.end(() => {});
      return [touched, home.querySelectorAll("[data-chat=part] > *").length];
    }""",
        "# Title\n\nSome *text*.\n\n- a\n  - b\n\n```js\nlet x;\n```\n\n|a|\n|-|\n|b|\n\n> q\n\nend"
        * 3,
    )
    assert touched[0] == 0
    assert touched[1] > 15


def test_a_page_without_frames_draws_it_nevertheless(page: Page) -> None:
    """A tab in the background gets none."""
    page.evaluate(
        """async () => {
      const { createMarkdown } = await import("/markdown/markdown.js");
      const home = document.querySelector("main");
      home.replaceChildren();
      const real = window.requestAnimationFrame;
      window.requestAnimationFrame = () => 0;
      createMarkdown(home).append("in the *background*.");
      window.requestAnimationFrame = real;
    }"""
    )
    expect(page.locator("main em")).to_have_text("background")


def test_many_pieces_are_drawn_once_in_a_frame(page: Page) -> None:
    calls = page.evaluate(
        """async () => {
      const { createMarkdown } = await import("/markdown/markdown.js");
      const home = document.querySelector("main");
      let calls = 0;
      const markdown = createMarkdown(home, { schedule: () => calls++ });
      markdown.reset();
      for (let piece = 0; piece < 1000; piece++) markdown.append("word ");
      const drawn = home.childElementCount;
      markdown.end(() => {});
      const text = home.textContent.length;
      markdown.reset();
      return [calls, drawn, text, home.childElementCount];
    }"""
    )
    assert calls == [1, 0, 4999, 0]


def test_code_has_its_language_and_a_button_that_copies_it(url: str, browser: Browser) -> None:
    """Also where the browser has no clipboard for pages: outside of https and localhost."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(url)
    page.evaluate(RENDER, [["```python\nprint(1)\n\nprint(2)\n```"]])
    block = page.locator("[data-chat=code]")
    assert block.locator("figcaption span").inner_text() == "python"
    block.get_by_role("button", name="Copy", exact=True).click()
    block.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "print(1)\n\nprint(2)"
    page.evaluate("delete Navigator.prototype.clipboard")
    page.evaluate(RENDER, [["```\nwithout a clipboard"]])
    block.get_by_role("button", name="Copy", exact=True).click()
    block.get_by_role("button", name="Copied").wait_for()
    context.close()
