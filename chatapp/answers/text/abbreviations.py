"""What a full stop ends: a sentence, an abbreviation or a number. No I/O.

This is judged by the text before it alone; doubtful cases are left to the next word.
"""

import re
from enum import Enum, auto

REACH = 24  # characters before a full stop in which an abbreviation is looked for

# "1", "## 2.3", "- **a", "iv", "Step 4": what is a number of something when a line begins with it
LIST_NUMBER = re.compile(
    r"[\s>*+#_(|-]*(?:[A-Z][a-z]+ )?(?:\d{1,9}(?:\.\d{1,9})*|[A-Za-z]|[ivxIVX]{1,5})"
)
DOTTED_WORD = re.compile(r"(?:[A-Za-z\u00c0-\u024f]+\.)*[A-Za-z\u00c0-\u024f]+\Z")
INITIALS = re.compile(r"(?:\w\.)*\w")
LETTER_AS_NAME = re.compile(
    r"\b(?i:class|grade|group|in|is|language|option|plan|type|vitamin) [A-Z]\Z"
)
NOT_BEFORE_ABBREVIATION = "0123456789_&/+=@#$'’\\"


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TITLES = words(
    "Capt Col Dr Drs Fr Gen Gov Hon Hr Lt Maj Messrs Mlle Mme Mr Mrs Ms Mt Mx Pres Prof Rep Rev"
    " Sen Sgt Sr Sra Srta St Ste bzw cf dr prof resp viz vs z"
)
# End a sentence unless a lower-case word, a digit or a bracket follows.
SHORT_FORMS = words(
    "a.m abb abs al approx apr art aug ave bd bros ca ch chap co corp dec dept ed eds eq eqs esp"
    " est etc evtl feb fig figs ggf hrsg inc incl inkl jan jr jul jun lit ltd mar max min misc nd"
    " no nos nov nr oct op p.m para ph.d pl pp ref refs rel sec sect sep sept seq str tel univ usw"
    " ver vol vols"
)


class Ending(Enum):
    """What the latest punctuation ends."""

    WIDE = auto()  # 。！？ end a sentence whatever follows
    SHARP = auto()  # ! and ?
    FULL_STOP = auto()
    NUMBER = auto()  # a full stop after a digit
    ELLIPSIS = auto()
    SHORT_FORM = auto()  # ends a sentence only before what looks like a new one
    NEVER = auto()  # a title, an initial, the number of a list item


IN_DOUBT = (Ending.ELLIPSIS, Ending.SHORT_FORM)


def ending_of_dot(line: str, begins_line: bool) -> Ending:
    """What a full stop after `line` ends; `begins_line`: it is the whole line so far."""
    if begins_line and LIST_NUMBER.fullmatch(line):
        return Ending.NEVER
    recent = line[-REACH:]
    if recent[-1:].isdigit():
        return Ending.NUMBER
    found = DOTTED_WORD.search(recent)
    if not found or (found.start() and recent[found.start() - 1] in NOT_BEFORE_ABBREVIATION):
        return Ending.FULL_STOP
    word = found.group()
    if word in TITLES:
        return Ending.NEVER
    if word.lower() in SHORT_FORMS or (len(word) == 1 and word.islower()):
        return Ending.SHORT_FORM
    if word == "I" or not INITIALS.fullmatch(word) or LETTER_AS_NAME.search(recent):
        return Ending.FULL_STOP
    return Ending.NEVER
