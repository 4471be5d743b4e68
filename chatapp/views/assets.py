"""The page's script and style, served without what only their readers need."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Final

from flask import Blueprint, Response, request, send_from_directory
from flask.typing import ResponseReturnValue
from werkzeug.security import safe_join

STATIC: Final = Path(__file__).parent.parent / "static"
TYPES: Final = {".js": "text/javascript", ".css": "text/css"}
KEPT: Final = r"""
    "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' | `(?:[^`\\]|\\.)*`
    | (?<=[(,=:!&|?\[{;>\s])/(?![*/\s])(?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*
"""
"""Strings, templates, regular expressions: after a division's `/` stands a space."""
COMMENT: Final = r"/\*[\s\S]*?\*/ | //[^\n]*"
_SCRIPT: Final = re.compile(
    rf"(?P<kept>{KEPT}) | {COMMENT} | (?P<gap>\s+) | (?P<code>[^\s\"'`/]+|/)", re.X
)
_PRIVATE: Final = re.compile(r"--_[a-z-]+")
"""The style sheet's own names; those of the public ones begin with `--chat-`."""
_CONST: Final = re.compile(r"(?<![\w.])const\b")
_STYLE: Final = re.compile(r"/\*.*?\*/|\s+(?=[{};])|(?<=[{};,:])\s+|\s+(?=\n)", re.S)


def register(blueprint: Blueprint) -> None:
    """Serve the modules, style sheets and pictures.

    Not below `/static`: mounted at the root, the application's own folder would come first.
    """

    @blueprint.get("/assets/<path:filename>", endpoint="static")
    def asset(filename: str) -> ResponseReturnValue:
        found = safe_join(str(STATIC), filename)
        path = Path(found or STATIC)
        if path.suffix not in TYPES or not path.is_file():
            return send_from_directory(STATIC, filename)
        response = Response(slim(path, path.stat().st_mtime_ns), mimetype=TYPES[path.suffix])
        response.add_etag()
        response.cache_control.no_cache = True
        return response.make_conditional(request)


@lru_cache(maxsize=64)
def slim(path: Path, changed: int = 0) -> str:
    """A file without comments, and without the white space that means nothing.

    `const` becomes `let`, and the style sheet's own names become short ones.

    The source keeps to what this relies on: no template within another, a space on both sides of
    each operator, a semicolon at each statement's end.
    """
    del changed  # A file that has changed is read again.
    text = path.read_text("utf-8")
    return _slim_script(text) if path.suffix == ".js" else _slim_style(text)


def _slim_style(text: str) -> str:
    names = sorted(set(_PRIVATE.findall(text)))
    short = {name: f"--{number:x}" for number, name in enumerate(names, 10)}
    text = _PRIVATE.sub(lambda found: short[found[0]], text)
    return _STYLE.sub("", text).replace(";}", "}")


def _slim_script(text: str) -> str:
    parts = [";"]
    gap = False
    for token in _SCRIPT.finditer(text):
        if token["kept"] or token["code"]:
            last, first = parts[-1][-1], token[0][0]
            if gap and last + first in (",)", ",]", ",}", ";}"):
                parts[-1] = parts[-1][:-1]
            said = token["kept"] or _CONST.sub("let", token[0])
            parts.append(" " * (gap and _has_to_part(last, first)) + said)
            gap = False
        gap = gap or bool(token["gap"])
    return "".join(parts)[1:]


def _has_to_part(before: str, after: str) -> bool:
    words = all(each.isalnum() or each in "_$#" for each in (before, after))
    return words or before + after in ("++", "--", "//") or (before == "/" and after.isalpha())
