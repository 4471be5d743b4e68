"""Where words end, without a dictionary. No I/O.

A word is delimited by white space, or is a single character of Han or Kana, which are written
without spaces.
"""

import unicodedata

from .sentences import CJK, LINE_ENDS


def extends(left: str, right: str) -> bool:
    """Whether `right` belongs to the character before it: the cheap part of Unicode UAX #29."""
    if right < "\u0300":
        return left == "\u200d" or (left == "\r" and right == "\n")
    return (
        left == "\u200d"
        or right == "\u200d"
        or unicodedata.category(right)[0] == "M"
        or "\uff9e" <= right <= "\uff9f"  # half-width voiced sound marks
        or "\udc00" <= right <= "\udfff"  # second half of a surrogate pair that was split
        or "\U0001f3fb" <= right <= "\U0001f3ff"  # skin tones
    )


def cuts_word(before: str, after: str) -> bool:
    """Whether a cut between these two non-empty pieces falls inside a word.

    A cut next to white space never does; one inside CR LF, or inside a character of several code
    points, always does.
    """
    left, right = before[-1], after[0]
    if extends(left, right):
        return True
    if left.isspace() or right.isspace():
        return False
    return max(left, right) < "\u2e80" or not (CJK.match(left) or CJK.match(right))


def last_word_boundary(text: str) -> int:
    """The largest offset in 1..len(text)-1 between two words of `text`; 0: there is none.

    White space leads the word that follows it ("Hello" | " world"); a line end closes its line.
    """
    for at in range(len(text) - 1, 0, -1):
        left = text[at - 1]
        leads = left.isspace() and left not in LINE_ENDS
        if not leads and not cuts_word(left, text[at]):
            return at
    return 0
