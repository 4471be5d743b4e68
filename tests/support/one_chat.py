"""One chat in this process, wired as in an application, but without its routes."""

from pathlib import Path
from typing import Any

from flask import Flask

from chatapp.answers.answer import Answer
from chatapp.conversations.model import Content
from chatapp.generation.hooks import Hooks
from chatapp.generation.tools.registry import Tools
from chatapp.runtime.stall_watch import StallWatch
from chatapp.service.components import Components
from chatapp.service.starter import ChatRequest
from chatapp.settings import Settings
from chatapp.wiring import build_components
from tests.support.upstream import FakeUpstream, poll

ME = "chat/user:me"


class OneChat:
    """A chat named `chat` with files in `folder`, asking `upstream`; options are its settings'."""

    def __init__(self, folder: Path, upstream: FakeUpstream, **options: Any) -> None:
        given = {"base_url": upstream.url, "api_key": "sk-test", "model": "fake-model"}
        given |= {"instance": str(folder), "start_wait": 10.0}
        given["eventlog_url"] = "memory://"
        settings = Settings(**(given | options))
        watch = StallWatch(1.0)
        self.hooks = Hooks(watch)
        self.tools = Tools(settings.tool_timeout, settings.tool_max_bytes, watch)
        self.parts: Components = build_components(
            Flask("one_chat"), settings, "chat", self.hooks, self.tools
        )
        self.service, self.store = self.parts.service, self.parts.store

    def ask(self, message: str = "Hi", key: str | None = None, **fields: Any) -> Answer:
        """A question of mine; its answer as it begins."""
        asked = ChatRequest(message=Content(message), **fields)
        return self.service.starter.start(ME, asked, key)

    def kept(self, answer: Answer) -> Any:
        """The message of an answer, once it has ended and the event log knows it whole."""
        poll(lambda: not answer.running and not self.service.replicator.behind)
        return self.store.answer(ME, answer.id)

    def titles(self) -> list[str | None]:
        """Of my conversations."""
        return [each.title for each in self.store.page(ME, None, 100)[0]]

    def close(self) -> None:
        self.service.finish(10)
