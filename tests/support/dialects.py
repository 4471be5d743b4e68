"""What servers that call themselves OpenAI-compatible were seen to send, one file a quirk.

A file of `tests/unit/upstream/dialects` is TOML:

* `server`: who sent it; `report`: where it was reported in public, as `owner/repository#number`, or
  empty; `about`: what is odd, in a sentence.
* `[reply]`: `status` (200), `headers`, and `body`: a text, or a list of texts where each is a write
  of its own. It goes out as UTF-8, or as `encoding` says.
* `[ask]`: how it was asked for, where that matters: settings (`settings`), options of the request
  (`options`).
* `[answer]`: what is right. In `streams`: `text` and `reasoning` (empty), then either
  `finish_reason` or the `code` of the failure; and where they matter `usage`, `tool_calls` and
  `sent_back`: what the next round of tools repeats of the message. In `refusals`: `code`,
  `retryable`, `param` (none), and where it matters `message`: a part of the sentence; `tries` (1):
  requests for one question, 2 where a second one leaves out a refused option.
"""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.upstream import Call

FOLDER = Path(__file__).parents[1] / "unit" / "upstream" / "dialects"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the server sent."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str | list[str] = ""
    encoding: str = "utf-8"

    @property
    def writes(self) -> list[bytes]:
        parts = [self.body] if isinstance(self.body, str) else self.body
        return [part.encode(self.encoding) for part in parts]


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What was asked for, beside a plain question."""

    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One quirk, and what is right. Called, it is a script of the fake upstream."""

    name: str
    server: str
    report: str
    about: str
    reply: Reply
    ask: Ask
    answer: dict[str, Any]

    def __str__(self) -> str:
        return self.name

    def __call__(self, call: Call) -> None:
        stream = self.reply.status == 200 and "Content-Type" not in self.reply.headers
        kind = "text/event-stream" if stream else "application/json"
        call.head(self.reply.status, **{"Content-Type": kind} | self.reply.headers)
        for part in self.reply.writes:
            call.send(part)
        call.raw(b"0\r\n\r\n")
        call.over.set()


def load(path: Path) -> Dialect:
    """:raises TypeError: a key is missing, or is none of ours."""
    told = tomllib.loads(path.read_text("utf-8"))
    reply, ask = Reply(**told.pop("reply")), Ask(**told.pop("ask", {}))
    return Dialect(name=path.stem, reply=reply, ask=ask, **told)


def dialects(kind: str) -> list[Dialect]:
    """All of them in the folder `streams` or `refusals`, by name."""
    return [load(path) for path in sorted((FOLDER / kind).glob("*.toml"))]
