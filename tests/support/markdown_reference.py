"""What Markdown should look like: a reference renderer, and one shape to compare both with."""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from markdown_it import MarkdownIt

STATIC = Path(__file__).parents[2] / "chatapp" / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
SPEC = "commonmark-spec@0.31.2"
PAGE = b'<!doctype html><title>Markdown</title><link rel="icon" href="/icon.svg"><main></main>'
VOID = {"br", "hr", "img", "input"}
SHOWN = {"href", "title", "src", "alt", "start", "class", "align"}
BLOCKS = {"ul", "ol", "li", "blockquote", "table", "thead", "tbody", "tr", "pre", "hr", "root"}
HEADINGS = {f"h{level}" for level in range(1, 7)}


class Handler(SimpleHTTPRequestHandler):
    """The page's own files, and an empty page, below the policy of the real one."""

    def do_GET(self) -> None:
        if self.path != "/":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(PAGE)
        return None

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY)
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def static_server() -> Iterator[str]:
    """The URL of an empty page beside the page's files."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(STATIC)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def spec_examples(folder: Path) -> list[dict[str, Any]] | None:
    """CommonMark's own examples, from the npm package; None where it cannot be had."""
    found = folder / "node_modules" / "commonmark-spec"
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm and node and not found.exists():
        install = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), SPEC]
        subprocess.run(install, check=False, capture_output=True, timeout=60)
    if not node or not found.exists():
        return None
    script = "process.stdout.write(JSON.stringify(require(process.argv[1]).tests))"
    said = subprocess.run([node, "-e", script, str(found)], check=True, capture_output=True)
    examples: list[dict[str, Any]] = json.loads(said.stdout)
    for example in examples:
        example["markdown"] = example["markdown"].replace("→", "\t")
    return examples


def is_allowed(url: str) -> bool:
    """Whether the page makes a link of it."""
    return re.match(r"(https?://|mailto:)\S", url, re.I) is not None


def reference() -> MarkdownIt:
    """The reference renderer with what the page supports, and no more.

    Neither HTML (nothing but text may come of a text) nor references (they would change what is
    drawn already), nor indented code and underlined headings: models write fences and `#`.
    """
    renderer = MarkdownIt("commonmark", {"html": False})
    renderer.disable(["reference", "code", "lheading"])
    renderer.enable(["table", "strikethrough"])
    renderer.validateLink = is_allowed  # type: ignore[method-assign]
    return renderer


@dataclass
class Element:
    """A node of either document."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Any] = field(default_factory=list)


class Tree(HTMLParser):
    """Reads HTML that one of the two renderers has written."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.root = Element("root")
        self._path = [self.root]
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        tag = "del" if tag == "s" else tag
        made = Element(tag, {name: value or "" for name, value in attrs})
        self._path[-1].children.append(made)
        if tag not in VOID:
            self._path.append(made)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            self._path.pop()

    def handle_data(self, data: str) -> None:
        self._path[-1].children.append(data)


def text_of(node: Any) -> str:
    """All text of a node."""
    return node if isinstance(node, str) else "".join(map(text_of, node.children))


def shape(html: str, *, bare_links: bool = True) -> Any:
    """What both renderers' HTML has in common if they agree."""
    return simplify(Tree(html).root, bare_links)


def simplify(node: Element, bare_links: bool) -> Any:
    """Nested lists: a tag, its attributes, its children."""
    children: list[Any] = []
    for child in flatten(node):
        if isinstance(child, Element) and child.tag == "tbody" and not child.children:
            continue
        made = child if isinstance(child, str) else simplify(child, bare_links)
        if not (bare_links or isinstance(child, str)) and child.tag == "a":
            made = text_of(child) if unquote(text_of(child)) == made[1]["href"] else made
        if isinstance(made, str) and children and isinstance(children[-1], str):
            children[-1] += made
        else:
            children.append(made)
    if node.tag == "code" and "lines" in node.attributes:
        children = [children[0].removesuffix("\n")] if children[0] != "\n" else []
    elif node.tag in BLOCKS | HEADINGS | {"p", "td", "th"} and node.tag != "pre":
        children = trimmed(children, node.tag in BLOCKS)
    if node.tag == "tr":
        while children and children[-1][2] == []:
            children.pop()
    return [node.tag, attributes_of(node), children]


def trimmed(children: list[Any], is_block: bool) -> list[Any]:
    """Without white space at the edges, and beside blocks."""
    kept: list[Any] = []
    for index, child in enumerate(children):
        if isinstance(child, str):
            edges = (index == 0, index == len(children) - 1)
            before = edges[0] or (is_block and is_block_tag(children[index - 1]))
            after = edges[1] or (is_block and is_block_tag(children[index + 1]))
            child = child.lstrip("\n ") if before else child
            child = child.rstrip("\n ") if after else child
        if child != "":
            kept.append(child)
    return kept


def is_block_tag(node: Any) -> bool:
    return not isinstance(node, str) and node[0] in BLOCKS | HEADINGS | {"p", "td", "th"}


def flatten(node: Element) -> Iterator[Any]:
    """The children, without what only the page has."""
    for child in node.children:
        if isinstance(child, str):
            yield child
            continue
        hook = child.attributes.get("data-chat")
        if hook == "code":
            pre = next(each for each in child.children if each.tag == "pre")
            pre.attributes["data-language"] = child.attributes["data-language"]
            yield pre
        elif hook in ("part", "table") or (node.tag == "code" and child.tag == "span"):
            yield from flatten(child)
        elif hook == "image":
            yield Element("img", {**child.attributes, "alt": text_of(child)})
        elif node.tag == "ul" or node.tag == "ol":
            tight = "dir" in node.attributes and "data-loose" not in node.attributes
            child.attributes["tight"] = str(tight)
            yield child
        elif child.tag == "p" and node.tag == "li" and node.attributes["tight"] == "True":
            yield from ["\n", *flatten(child), "\n"]
        else:
            if node.tag == "pre" and "dir" not in node.attributes and child.children:
                child.attributes["lines"] = "each with its end, also the last"
            if language := node.attributes.get("data-language"):
                child.attributes["class"] = f"language-{language}"
            yield child


def attributes_of(node: Element) -> dict[str, str]:
    """What the reader sees of them, in one spelling."""
    found = dict(node.attributes)
    if "data-align" in found:
        found["align"] = found["data-align"]
    if style := found.get("style"):
        found["align"] = style.removeprefix("text-align:")
    if found.get("align") == "left":
        del found["align"]  # What the page says of each column that says nothing else.
    if node.tag == "img":
        found["src"] = found.pop("href", found.get("src", ""))
        found.pop("class", None)
    return {
        name: unquote(value) if name in ("href", "src") else value
        for name, value in found.items()
        if name in SHOWN
    }
