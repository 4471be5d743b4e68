"""Where sentences end, while the text is still being written. No I/O.

The writer of an answer splits each piece of text where a sentence ends; readers group whole events
into sentences. Both use `SentenceCutter`, and find the same boundaries because each character is
judged only by the text before it:

    whether a sentence ends at p depends on text[:p] and on text[p], on nothing later.

So an undecided boundary is always at the very end of the text received, and deciding it never
requires a cut inside text that has already been sent. It follows that:

* White space after a sentence leads the next one. Only where the next word has to be seen to decide
  ("wait... what", `"Go!" she said`, "5 p.m. on") does it stay with the text before it.
* `He said "Go!" I left` and `“走！”他说` end a sentence at the closing quote.
* "approx. Five" may end one, "vitamin C. It" may not: a word list is no grammar.

A line feed, a carriage return or both end a line, and a line end is always a sentence end, except
that nothing but white space is never a sentence: blank lines lead the next one.
Code fences and code spans follow CommonMark 0.31 (4.5, 6.1), but a span ends with its line.
"""

import re
from collections.abc import Callable

from .abbreviations import IN_DOUBT, Ending, ending_of_dot

KEEP = 64  # characters of a line that rules may look back over, or see of its beginning
LIMIT = 4 * KEEP  # a longer memory is shortened to KEEP: rarely, so that it costs nothing

WIDE_MARKS = "。！？｡"
SHARP_MARKS = "!?"
DOTS = ".．…"
MARKS = WIDE_MARKS + SHARP_MARKS + DOTS
CLOSING = "\"'”’»›」』）)]】》〉〕］〗＂＇"
# Also stay with the mark before them: ends of emphasis and deletion, variation selectors.
CLOSERS = CLOSING + "*_~\ufe00\ufe01\ufe0e\ufe0f"
GOES_ON = ",;:，、；：､"
DASHES = "-–—"
LINE_ENDS = "\r\n"

# Han, Kana, Bopomofo and their punctuation, which are written without spaces between words;
# neither Hangul, which has spaces, nor the full-width forms of Latin letters and digits.
CJK = re.compile(
    "[\u2e80-\u312f\u3190-\u9fff\uf900-\ufaff\ufe10-\ufe1f\ufe30-\ufe4f\uff01-\uff0f\uff1a-\uff20"
    "\uff3b-\uff40\uff5b-\uff9f\U0001aff0-\U0001b16f\U00020000-\U0003ffff]"
)
OPENING_QUOTES = "“‘«‹„"

Search = Callable[..., re.Match[str] | None]
PROSE: Search = re.compile(f'[{re.escape(MARKS)}`~*"\r\n]').search
SPAN: Search = re.compile("[`\r\n]").search  # inside a code span
RAW: Search = re.compile("[\r\n]").search  # inside a fenced block

CONTAINERS = re.compile(r"[\s>]*(?:(?:[-*+]|\d{1,9}[.)])\s+)*")
LIST_ITEM = re.compile(r"[\s>]*(?:[-*+]|\d{1,9}[.)])\s+")


class SentenceCutter:
    """Finds where the sentences of one text end, as the text arrives piece by piece.

    The boundaries do not depend on how the text is divided into pieces. They do depend on all the
    text from its start: to begin in the middle, feed the text before it first. Memory is bounded
    and time is linear, whatever the text. One instance per text; not thread-safe.
    """

    __slots__ = (
        "closed", "ending", "fence", "head", "indent", "ink", "line", "opener", "quote_open",
        "search", "span", "star_open", "watch",
    )  # fmt: skip

    def __init__(self) -> None:
        # The end of the current line: at least KEEP characters, or all since the last boundary.
        self.line = ""
        # The first KEEP characters of the line, once `line` does not reach back to them any more.
        self.head = ""
        # Whether the current sentence has more than white space before `line`.
        self.ink = False
        # What the next character decides: "." (marks and closers so far), " " (white space after
        # them, still in doubt), "[" (a reference after them), "`", "~", "*" (the length of a run),
        # "\r" (whether "\n" follows). Empty: only the characters that `search` finds matter.
        self.watch = ""
        self.search = PROSE
        self.ending = Ending.FULL_STOP
        self.closed = False  # a quote or bracket was closed after the marks
        self.span = 0  # backticks that opened the code span we are in
        self.opener = ""  # the run that makes this line the first of a fenced block
        self.fence = ""  # the run that opened the fenced block we are in
        self.indent = 0  # columns up to the text of the list item we are in
        self.star_open = False
        self.quote_open = False

    def feed(self, text: str) -> list[int]:
        """Take the next piece; return the offsets in it after which a sentence is complete.

        Ascending, in 0..len(text). 0 means that what was fed before ended a sentence. Every
        boundary is reported once. What follows the last one is the sentence still being written.
        """
        if self.search(text) is None and self.take_plain(text):
            return []
        cuts: list[int] = []
        at = 0
        while at < len(text):
            if not self.watch:
                found = self.search(text, at)
                end = found.start() if found else len(text)
                self.remember(text[at:end])
                at = end
                if not found:
                    break
            char = text[at]
            if self.watch and self.settle(char):
                cuts.append(at)
            at += 1
            if self.take(char):
                cuts.append(at)
        return cuts

    def take_plain(self, text: str) -> bool:
        """Take a piece without any of the characters that matter, unless the first one decides.

        :returns: whether it was taken; no sentence is complete then.
        """
        if self.watch:
            return False
        self.line += text
        if len(self.line) > LIMIT:
            self.remember("")
        return True

    def remember(self, text: str) -> None:
        self.line += text
        if len(self.line) > LIMIT:
            self.head = self.head or self.line[:KEEP]
            self.ink = self.ink or bool(self.line[:-KEEP].strip())
            self.line = self.line[-KEEP:]

    def begins_line(self) -> bool:
        """Whether `line` is the whole line so far, and a short one."""
        return not self.head and len(self.line) <= KEEP

    def settle(self, char: str) -> bool:
        """Let `char` decide what it can; return whether a sentence ends before it."""
        watch = self.watch
        if watch == ".":
            return self.settle_marks(char)
        if watch == "[":
            self.watch = "." if char == "]" else "[" if char.isdigit() or char in "^," else ""
            return False
        if watch == " ":
            if char.isspace() and char not in LINE_ENDS:
                return False
            self.watch = ""
            return self.begins_sentence(char) and self.cut()
        if watch == "\r":
            self.watch = ""
            return char != "\n" and self.end_line()
        if char != watch:
            self.watch = ""
            self.end_run(watch, char)
        return False

    def settle_marks(self, char: str) -> bool:
        """`settle` after the marks that may end a sentence and the closers that go with them."""
        if char in MARKS:
            self.add_mark(char)
            return False
        if char in CLOSERS and not self.opens(char):
            self.closed = self.closed or char in CLOSING
            self.quote_open = self.quote_open and char != '"'
            self.star_open = self.star_open and char != "*"
            return False
        if char == "[" and self.ending is not Ending.WIDE:
            self.watch = "["
            return False
        self.watch = ""
        if char in LINE_ENDS or char in GOES_ON:
            return False
        if self.ending is Ending.WIDE:
            return self.cut()
        if char.isspace():
            if self.closed or self.ending in IN_DOUBT:
                self.watch = " "
                return False
            return self.ending is not Ending.NEVER and self.cut()
        if self.ending in (Ending.NEVER, Ending.SHORT_FORM, Ending.NUMBER):
            return False
        return (char in OPENING_QUOTES or CJK.match(char) is not None) and self.cut()

    def add_mark(self, char: str) -> None:
        if char in WIDE_MARKS:
            self.ending = Ending.WIDE
        elif self.ending is not Ending.WIDE:
            if char in SHARP_MARKS:
                self.ending = Ending.SHARP
            elif self.ending is not Ending.SHARP:
                self.ending = Ending.FULL_STOP if self.closed else Ending.ELLIPSIS
        self.closed = False

    def opens(self, char: str) -> bool:
        """Whether `char`, right after 。！？, opens a quote or emphasis of the next sentence.

        After .!? nothing opens without a space before it.
        """
        if self.ending is not Ending.WIDE:
            return False
        if char == '"':
            return not self.quote_open
        return char == "*" and not self.star_open and not self.line.endswith("*")

    def begins_sentence(self, char: str) -> bool:
        """Whether `char`, the first after doubtful marks and white space, begins a new sentence."""
        if char in LINE_ENDS or char.islower() or char in GOES_ON or char in DASHES:
            return False
        if self.ending is Ending.SHORT_FORM:
            return not (char.isdigit() or char in "(&" or CJK.match(char))
        return True

    def cut(self) -> bool:
        """End the sentence after all that was taken, unless this is a table row."""
        if (self.head or self.line)[:KEEP].lstrip(" \t>").startswith("|"):
            return False
        self.head = self.head or self.line[:KEEP]
        self.line = ""
        self.ink = False
        return True

    def take(self, char: str) -> bool:
        """Add `char` to the text; return whether a sentence ends after it."""
        if char == "\n":
            return self.end_line()
        if char == "\r":
            self.watch = char
            return False
        if self.watch != "." and self.search(char):
            self.start(char)
        self.remember(char)
        return False

    def start(self, char: str) -> None:
        """Begin what `char`, one of those that `search` finds, is the first of."""
        if char in MARKS:
            self.watch = "."
            self.closed = False
            if char in ".．":
                self.ending = ending_of_dot(self.line, self.begins_line())
            else:
                self.ending = Ending.ELLIPSIS
                self.add_mark(char)
        elif char == '"':
            self.quote_open = not self.quote_open
        elif self.span or not self.line.endswith("\\"):
            self.watch = char

    def end_run(self, mark: str, following: str) -> None:
        """Judge the run of `mark` that `line` ends with."""
        before = self.line[-KEEP:].rstrip(mark)
        length = min(len(self.line), KEEP) - len(before)
        if mark == "*":
            self.star_open = not self.star_open and not following.isspace()
        elif mark == "`" and self.span:
            self.opener = ""  # CommonMark 4.5: the info string of ``` has no backtick
            if length == self.span:
                self.span = 0
                self.search = PROSE
        else:
            if length >= 3 and self.begins_line() and self.may_hold_fence(before):
                self.opener = mark * length
            if mark == "`":
                self.span = length
                self.search = SPAN
            elif self.opener:
                self.search = RAW

    def may_hold_fence(self, prefix: str) -> bool:
        """Whether a fence may stand after `prefix`: at most 3 columns in, or in its list item."""
        columns = prefix.expandtabs(4)
        inset = len(columns) - len(columns.lstrip())
        return inset <= self.indent + 3 and CONTAINERS.fullmatch(prefix) is not None

    def closes_fence(self) -> bool:
        run = self.line.lstrip(" \t>").rstrip()
        prefix = self.line[: self.line.find(run)]
        long_enough = len(run) >= len(self.fence) and not run.strip(self.fence[0])
        return long_enough and self.begins_line() and self.may_hold_fence(prefix)

    def end_line(self) -> bool:
        """Begin a new line; return whether a sentence ends here."""
        inked = self.ink or bool(self.line.strip())
        if self.fence:
            if self.closes_fence():
                self.fence = ""
        else:
            self.fence = self.opener
            beginning = (self.head or self.line)[:KEEP]
            if item := LIST_ITEM.match(beginning):
                self.indent = item.end()
            elif not beginning[:1].isspace() and beginning:
                self.indent = 0
        self.line = self.head = self.opener = self.watch = ""
        self.ink = self.star_open = self.quote_open = False
        self.span = 0
        self.search = RAW if self.fence else PROSE
        return inked
