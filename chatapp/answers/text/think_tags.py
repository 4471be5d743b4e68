"""Reasoning that a model writes into its text, told apart while it streams; no I/O.

Only the beginning of an answer is looked at: a model that explains these tags later is left alone.
"""

import re
from typing import Final

TAGS: Final = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<mm:think>": "</mm:think>",
    "◁think▷": "◁/think▷",
    "[THINK]": "[/THINK]",
}
"""What opens reasoning, and what ends it."""
OPENED_BY_TEMPLATE: Final = "<think>"

_LONE_END: Final = re.compile(r"(?<![`'\"\w])</think>|(?<=\w)</think>(?=\s)")


class ThinkTags:
    """Tells the reasoning from the text of one answer, whose pieces may be cut anywhere.

    White space around the tags is left out.

    :param opened: whether the prompt has opened the first one: some templates end with `<think>`.
    :param keep: whether `raw` is wanted.
    """

    __slots__ = ("_assumed", "_begun", "_end", "_held", "_raw", "_stripping", "over")

    def __init__(self, opened: bool = False, keep: bool = False) -> None:
        self.over = False
        """Whether all that follows is text."""
        self._end = TAGS[OPENED_BY_TEMPLATE] if opened else ""
        """What ends the reasoning that is being read; empty: none is."""
        self._held = ""
        """What may be a part of a tag, or white space before one."""
        self._begun = False
        """Whether something of this reasoning has been passed on."""
        self._assumed: list[str] | None = [] if opened else None
        """Reasoning that no tag has shown to be some."""
        self._stripping = False
        """Whether white space before the text belongs to the tag before it."""
        self._raw: list[str] | None = [] if keep else None

    @property
    def raw(self) -> str:
        """All up to the end of the reasoning, as the model wrote it."""
        return "".join(self._raw or ())

    def split(self, text: str) -> tuple[str, str]:
        """The reasoning and the text that are certain with this piece, which may be empty."""
        self._held += text
        reasoning = ""
        while not self.over:
            if self._end:
                reasoning += self._read_reasoning()
                if self._end:
                    return reasoning, ""
            elif not self._opens():
                break
        if not self.over:
            return reasoning, ""
        text, self._held = self._held, ""
        return reasoning, text

    def rest(self) -> tuple[str, str]:
        """What is left when the stream has ended."""
        held, self._held = self._held, ""
        if not self._end:
            return "", "" if self._stripping and held.isspace() else held
        if self._assumed is None:
            return held.rstrip(), ""
        # Nothing has ended it, so there was none: it may be the answer.
        return "", "".join(self._assumed).strip() + held.rstrip()

    def _opens(self) -> bool:
        """Read what opens reasoning; False: there is none, or more is needed to know."""
        begin = self._held.lstrip()
        for tag, end in TAGS.items():
            if begin.startswith(tag):
                self._note(len(self._held) - len(begin) + len(tag))
                self._end, self._begun = end, False
                return True
        if begin and not any(tag.startswith(begin) for tag in TAGS):
            self.over = True
            if self._stripping:
                self._held = begin
        return False

    def _read_reasoning(self) -> str:
        """What of the reasoning is certain."""
        at = self._held.find(self._end)
        if at >= 0:
            reasoning = self._held[:at].rstrip()
            self._note(at + len(self._end))
            self._end, self._stripping, self._assumed = "", True, None
        else:
            reasoning = self._held[: self._certain()]
            self._note(len(reasoning))
        if not self._begun:
            reasoning = reasoning.lstrip()
            self._begun = bool(reasoning)
        if self._assumed is not None:
            self._assumed.append(reasoning)
        return reasoning

    def _certain(self) -> int:
        """Up to where nothing belongs to the tag that ends the reasoning, nor stands before it."""
        held = self._held
        for size in range(min(len(self._end) - 1, len(held)), 0, -1):
            if held.endswith(self._end[:size]):
                held = held[:-size]
                break
        return len(held.rstrip())

    def _note(self, size: int) -> None:
        """Take so many characters from what is held."""
        if self._raw is not None:
            self._raw.append(self._held[:size])
        self._held = self._held[size:]


def split_at_lone_end(text: str) -> tuple[str, str] | None:
    """Reasoning and text of a whole answer that has only the end of its reasoning; None: not so.

    That comes from templates which open it in the prompt.
    """
    found = _LONE_END.search(text) if "</think>" in text else None
    if not found or any(tag in text[: found.start()] for tag in TAGS):
        return None
    return text[: found.start()].strip(), text[found.end() :].lstrip()
