"""What property tests share: how many examples are tried, and texts that have gone wrong before."""

import os
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# No deadline: a busy machine must not fail a test. In CI the same examples are tried every time.
_COMMON: dict[str, Any] = {
    "deadline": None,
    "derandomize": "CI" in os.environ,
    "suppress_health_check": [HealthCheck.too_slow],
}
# A look while one works is to be quick: every nth example then.
_NTH = int(os.environ.get("TEST_NTH_EXAMPLE", "1"))
FEW = settings(max_examples=40 // _NTH, **_COMMON)
MANY = settings(max_examples=150 // _NTH, **_COMMON)

# Line separators that Python splits at and SSE does not, characters of two UTF-16 units, NUL, CJK.
ODD = "\u2028\u2029\u0085\x0b\x0c\x1c\0\ufeff😀👩‍💻é中文。！？\r\n\t "
TEXTS = st.text(
    st.sampled_from(ODD + "ab1.!?…\"'(”`*|-") | st.characters(codec="utf-8"), max_size=60
)
SPEECH = st.lists(
    st.sampled_from(
        (*"ab。！？.!?…\n\r\t \"'”’」)`|*-1", "Dr.", "e.g.", "3.14", "```", "1. ", "Hello", "世界")
    ),
    max_size=40,
).map("".join)
# What decides where sentences and words end, close together.
CHARACTERS = "。！？…｡．.!?\"'”’»」）)]】[(“`~*_|>-#,，:0123aIZé好のア한\n\r\t \u3000\u2028\ufe0f🎉"
STRINGS = [
    "```", "~~~", "\n```", "\n~~~", "\r\n", "\n\n", "    ", "\n- ", "\n1. ", "**", "...",
    "Dr", "e.g", "etc", "U.S", " no", " word", "\n| ", "in C", "[1]", " " * 70, "x" * 300,
]  # fmt: skip
RICH = st.lists(st.sampled_from([*CHARACTERS, *STRINGS]), max_size=60).map("".join)


def parts_of(whole: Any, cuts: list[int]) -> list[Any]:
    """`whole` in pieces, cut at these offsets; those that lie outside count from its end."""
    edges = sorted({0, len(whole), *(cut % (len(whole) + 1) for cut in cuts)})
    return [whole[a:b] for a, b in pairwise(edges)]


CUTS = st.lists(st.integers(0, 10_000), max_size=12)
