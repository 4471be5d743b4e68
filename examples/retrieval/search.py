"""Finds the paragraphs of Markdown files that fit a question best: BM25, in plain Python."""

import math
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

# A word, or one Chinese or Japanese character.
TERM = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]|[^\W_\u3040-\u30ff\u4e00-\u9fff]+")
SATURATION = 1.5
"""BM25's `k1`: how soon the repetition of a term counts no more."""
LENGTH_MATTERS = 0.75
"""BM25's `b`: how much a long paragraph is held back."""
EVERYWHERE = 0.5
"""A term in more than this part of all paragraphs says nothing."""


class Paragraph(NamedTuple):
    """A piece of a file, with the headings above it."""

    source: str
    heading: str
    text: str


class Index:
    """The paragraphs of all Markdown files in a folder, read once."""

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.rglob("*.md"))
        self._paragraphs = [each for file in files for each in paragraphs(file, folder)]
        self._counts = [Counter(terms(f"{each.heading} {each.text}")) for each in self._paragraphs]
        self._lengths = [count.total() for count in self._counts]
        self._average = sum(self._lengths) / max(len(self._lengths), 1)
        self._containing = Counter(term for count in self._counts for term in count)

    def best(self, question: str, most: int) -> list[Paragraph]:
        """The paragraphs that fit best, the best first; none that does not fit at all."""
        wanted = set(terms(question))
        scores = [self._score(number, wanted) for number in range(len(self._paragraphs))]
        ranking = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
        return [self._paragraphs[number] for number in ranking[:most] if scores[number] > 0]

    def _score(self, number: int, wanted: set[str]) -> float:
        count = self._counts[number]
        relative = self._lengths[number] / self._average
        damping = SATURATION * (1 - LENGTH_MATTERS + LENGTH_MATTERS * relative)
        return sum(
            self._weight(term) * count[term] * (SATURATION + 1) / (count[term] + damping)
            for term in wanted & count.keys()
        )

    def _weight(self, term: str) -> float:
        """How much a term says: the rarer, the more."""
        containing, all_of_them = self._containing[term], len(self._paragraphs)
        if containing > EVERYWHERE * all_of_them:
            return 0.0
        return math.log(1 + (all_of_them - containing + 0.5) / (containing + 0.5))


def terms(text: str) -> list[str]:
    """What is compared; a plural's `s` does not count."""
    return [each.removesuffix("s") for each in TERM.findall(text.lower())]


def paragraphs(file: Path, folder: Path) -> list[Paragraph]:
    """The paragraphs of a file, between blank lines."""
    found, headings = [], [""] * 6
    for block in re.split(r"\n\s*\n", file.read_text("utf-8")):
        if heading := re.match(r"(#{1,6}) +(.*)", block.strip()):
            level = len(heading[1]) - 1
            headings[level:] = [heading[2]] + [""] * (5 - level)
            block = block.strip()[heading.end() :]
        if block.strip():
            place = " / ".join(each for each in headings if each)
            found.append(Paragraph(str(file.relative_to(folder)), place, block.strip()))
    return found
