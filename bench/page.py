"""Measure what Markdown costs the page: 1 MB in 20,000 pieces, friendly and hostile.

`python bench/page.py [name ...]` prints, for each text, the time spent in scripts and in layout
(Chromium's own counters), the longest task, and the number of frames.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.browser import chromium
from tests.support.markdown_reference import static_server

SIZE = 1_000_000
EVENTS = 20_000
STYLES = """
[data-chat="part"], [data-chat="table"], [data-chat="code"] {
  content-visibility: auto; contain-intrinsic-size: auto 20rem
}
[data-chat="code"] code > span, [data-chat="math"] code > span { display: block }
pre { white-space: pre; overflow-x: auto }
"""
ANSWER = """## Section {n}

A paragraph with **strong words**, *emphasis*, `code` and a [link](https://example.org/{n}). It
goes on for a while, as answers do, 也说一点中文，with a few more words until the line ends.

- first item, with `code`
- second item
  1. nested
  2. and so on

| Name | Value | Note |
| :--- | ----: | :--: |
| a{n} | 1.5 | *good* |
| b{n} | 2.5 | **bad** |

```python
def function_{n}(argument: int) -> int:
    return argument * {n}  # a comment
```

> Quoted, with $x^2 + y^2$ in it.

"""


def repeat(text: str) -> str:
    """So many times that it is `SIZE` characters long."""
    return (text * (SIZE // len(text) + 1))[:SIZE]


TEXTS = {
    "answer": "".join(ANSWER.format(n=n) for n in range(SIZE // len(ANSWER) + 1))[:SIZE],
    "paragraph": repeat("Words of one paragraph that has no end, and *some* emphasis.\n"),
    "line": repeat("Words of one line that has no end, and *some* emphasis. "),
    "word": repeat("a"),
    "chinese": repeat("这是一个没有空行的长段落，里面有**强调**和`代码`。"),
    "code": "```\n" + repeat("let x = 1; // a line of code\n"),
    "code line": "```\n" + repeat("abcdefghij"),
    "stars": repeat("*"),
    "stars a": repeat("*a "),
    "stars a*": repeat("*a**b "),
    "brackets": repeat("["),
    "links": repeat("[a](b "),
    "images": repeat("![a]("),
    "backticks": repeat("`"),
    "ticks": "".join("`" * (n % 900) + "a" for n in range(2400))[:SIZE],
    "quotes": repeat(">"),
    "quoted": repeat("> > > > a\n"),
    "dollars": repeat("$a "),
    "nested": "".join("  " * (n % 3000) + "- a\n" for n in range(3000))[:SIZE],
    "markers": repeat("- "),
    "items": repeat("- 1\n"),
    "blanks": repeat("\n"),
    "spaces": repeat(" "),
    "table": "|a|b|c|\n|-|-|-|\n" + repeat("| one | *two* | three |\n"),
    "wide": "|" + "a|" * 64 + "\n|" + "-|" * 64 + "\n" + repeat("|\n"),
    "pipes": repeat("a|b\n-|-\n"),
    "headings": repeat("# a\n"),
    "heading": "# " + repeat("word "),
    "hashes": "# " + repeat("# "),
    "underscores": repeat("_a__b"),
    "entities": repeat("&#35;"),
    "angles": repeat("<"),
    "urls": repeat("https://a.b/c?d=(e)&f;"),
}
RUN = """async ([text, events, size]) => {
  const { createMarkdown } = await import("/markdown/markdown.js");
  const home = document.querySelector("main");
  home.replaceChildren();
  const tasks = [];
  new PerformanceObserver((list) => tasks.push(...list.getEntries()))
    .observe({ type: "longtask", buffered: false });
  const begun = performance.now();
  let frames = 0;
  let worst = 0;
  let run = null;
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const markdown = createMarkdown(home, {
    schedule(next) {
      requestAnimationFrame(() => {
        const start = performance.now();
        next();
        frames++;
        worst = Math.max(worst, performance.now() - start);
      });
    },
  });
  for (let event = 0; event < events; event++) {
    markdown.append(text.slice(event * size, (event + 1) * size));
    if (event % PACE === 0) await frame();
  }
  await frame();
  await frame();
  const start = performance.now();
  await new Promise((done) => markdown.end(done));
  const end = performance.now() - start;
  await frame();
  await new Promise((done) => setTimeout(done, 100));
  return { frames, worst, end, nodes: home.querySelectorAll("*").length,
    long: Math.max(0, ...tasks.map((task) => task.duration)), count: tasks.length,
    tasks: tasks.map((task) => [Math.round(task.startTime - begun), task.duration]) };
}"""


def measure(page: Any, name: str, pace: int) -> None:
    """Print a row."""
    text = TEXTS[name]
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable")

    def metrics() -> dict[str, float]:
        return {
            each["name"]: each["value"] for each in cdp.send("Performance.getMetrics")["metrics"]
        }

    before = metrics()
    size = -(-len(text) // EVENTS)
    result = page.evaluate(RUN.replace("PACE", str(pace)), [text, EVENTS, size])
    after = metrics()
    script, layout, style = (
        after[key] - before[key]
        for key in ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration")
    )
    print(
        f"{name:12} script {script:6.2f} s  layout {layout:6.2f} s  style {style:5.2f} s  "
        f"longest task {result['long']:5.0f} ms ({result['count']} over 50)  longest frame script "
        f"{result['worst']:5.1f} ms  end {result['end']:5.1f} ms  {result['frames']} frames  "
        f"{result['nodes']} elements",
        *(result["tasks"] if "-v" in sys.argv else ()),
        flush=True,
    )


def main() -> None:
    """Measure the texts named, or all."""
    pace = 20
    names = [each for each in sys.argv[1:] if each != "-v"]
    if names and names[0].isdigit():
        pace = int(names.pop(0))
    with static_server() as url, chromium() as browser:
        for name in names or TEXTS:
            page = browser.new_page()
            page.goto(url)
            page.evaluate(
                "(css) => { const sheet = new CSSStyleSheet(); sheet.replaceSync(css);"
                "document.adoptedStyleSheets = [sheet]; }",
                STYLES,
            )
            measure(page, name, pace)
            page.close()


if __name__ == "__main__":
    main()
