"""What a conversation is called: words of its beginning, without markup; no I/O."""

import itertools
import re
import unicodedata
from collections.abc import Iterator
from typing import Final

MAX_TITLE_CHARS: Final = 80
READ_CHARS: Final = 20_000
"""Of a text; what is behind them makes no title."""
PLAIN_CHARS: Final = 8 * MAX_TITLE_CHARS
"""The same of a text without its blocks of code."""

_SENTENCE: Final = re.compile(r"[^.!?。！？\n]*[.!?。！？]?")
_CODE_BLOCK: Final = re.compile(
    r"^ {0,3}(```+(?![^\n]*`)|~~~+).*?(?:^ {0,3}\1[`~]*[ \t]*$|\Z)", re.M | re.S
)
_COMMENT: Final = re.compile(r"<!--.*?(?:-->|\Z)", re.S)
_LINK: Final = re.compile(r"!?\[([^\[\]\n]*)\]\([^()\s]*(?:[ \t]+\"[^\"\n]*\")?\)")
_ELEMENT: Final = re.compile(r"<([A-Za-z][A-Za-z0-9]*)(?:\s[^<>]*)?>([^<>]*)</\1\s*>|<br\s*/?>")
_LINE_BEGIN: Final = re.compile(r"^[ \t]*(?:(?:#{1,6}|>|[-*+]|\d{1,3}[.)])[ \t]+|>)+", re.M)
_TABLE_ROW: Final = re.compile(r"^[ \t]*\|.*$", re.M)
_RULE: Final = re.compile(r"^[ \t|:]*(?:[-*_=|:][ \t]*){3,}$", re.M)
_CODE: Final = re.compile(r"(?<!`)(`+)(?!`)([^\n]+?)(?<!`)\1(?!`)")
_EMPHASIS: Final = re.compile(
    r"(\*\*|__|~~)(?=\S)([^\n]*?\S)\1|(?<!\w)([*_])(?=\S)([^\n]*?\S)\3(?!\w)"
)
_JOINERS: Final = "\u200c\u200d"
"""They shape letters and emoji, and are nothing alone."""
_KEPT: Final = _JOINERS + "\0"
"""NUL is replaced where texts are stored."""
_BLANK: Final = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
"""Characters that show nothing, though Unicode counts them to the visible ones."""


def title_of(text: str) -> str:
    """The beginning of a question, on one line; of code alone, the code's; empty: nothing shows."""
    text = text[:READ_CHARS]
    return _shortened(_words(_plain(text)) or _words(text.replace("`", " ")))


def title_of_exchange(question: str | None, answer: str) -> str:
    """The title after the first answer: the question's, and the answer's first sentence."""
    found = _SENTENCE.match(_plain(answer[:READ_CHARS]).lstrip())
    sentence = _words(found[0]) if found else ""
    if not (question and sentence):
        return question or _shortened(sentence)
    return _shortened(f"{question} – {sentence}")


def _plain(text: str) -> str:
    """The text without blocks of code and without the marks of Markdown and HTML."""
    text = _COMMENT.sub(" ", _CODE_BLOCK.sub("\n", text)).lstrip()[:PLAIN_CHARS]
    text = _ELEMENT.sub(lambda found: found[2] or " ", _LINK.sub(r"\1", text))
    text = _LINE_BEGIN.sub("", _RULE.sub("", text))
    text = _TABLE_ROW.sub(lambda row: row[0].replace("|", " "), text)
    parts = _CODE.split(text)  # text, marks, code, text…
    parts[::3] = [_without_emphasis(part) for part in parts[::3]]
    del parts[1::3]
    return "".join(parts)


def _without_emphasis(text: str) -> str:
    for _ in range(2):  # Bold and italics may be in each other.
        text = _EMPHASIS.sub(lambda found: found[2] or found[4], text)
    return text


def _words(text: str) -> str:
    """What shows of a text, on one line."""
    shown = "".join(_shown(text)).split()
    words = (word.strip(_JOINERS) for word in itertools.islice(shown, MAX_TITLE_CHARS + 1))
    return " ".join(word for word in words if word)


def _shown(text: str) -> Iterator[str]:
    for each in text:
        if each.isspace():
            yield " "
        elif each in _KEPT or (
            each not in _BLANK and unicodedata.category(each) not in ("Cc", "Cf")
        ):
            yield each


def _shortened(line: str) -> str:
    return line if len(line) <= MAX_TITLE_CHARS else line[: MAX_TITLE_CHARS - 1] + "…"
