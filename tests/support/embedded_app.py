"""The chat in a host application: inside the test's process, or served by gunicorn."""

import json
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from chatapp import ChatApp
from tests.support.client import Client, Sent, parse_all
from tests.support.gunicorn import Gunicorn
from tests.support.upstream import Call, FakeUpstream, Script, poll, speak

MakeHost = Callable[..., Flask]


def host(parent: Path, **config: Any) -> Flask:
    """An application without a chat, with a folder of its own below `parent`."""
    folder = tempfile.mkdtemp(dir=parent)
    app = Flask("tests.support.embedded_app", instance_path=f"{folder}/instance", root_path=folder)
    app.config.update(SECRET_KEY="the host's own secret", CHATAPP_START_WAIT=5, **config)
    return app


def asking(url: str, **options: Any) -> dict[str, Any]:
    """A chat's options that have it ask this upstream."""
    return {"base_url": url, "api_key": "sk-secret", "model": "fake-model", **options}


def mounted(app: Flask, url: str, prefix: str | None = "/chat", **options: Any) -> ChatApp:
    """A chat in front of an upstream."""
    name = options.pop("name", "chatapp")
    return ChatApp(app, url_prefix=prefix, name=name, options=asking(url, **options))


def asked(
    client: FlaskClient, mount: str = "/chat", message: str = "Hi", **fields: Any
) -> list[Sent]:
    """All events of the answer to a question."""
    headers = {"Accept": "text/event-stream"}
    body = {"message": message} | fields
    response = client.post(f"{mount}/api/chat", json=body, headers=headers)
    assert response.status_code == 200, response.data
    return parse_all(response.data)


def refused(response: Any) -> tuple[int, str]:
    """Status and code of an error reply."""
    return response.status_code, json.loads(response.data)["error"]["code"]


class Served:
    """A host application in front of a fake upstream, under gunicorn, until `close`.

    Tests tell their questions apart by the text that they ask; `scripts` says who answers which.

    :param source: of the application, which is `app` in it.
    """

    def __init__(self, folder: Path, source: str, *args: str, **env: str) -> None:
        self.upstream = FakeUpstream()
        self.scripts: dict[str, Script] = {}
        self.upstream.script = self._answer
        self._instance = folder / "instance"
        (folder / "hosted.py").write_text(source, "utf-8")
        args = ("--pythonpath", str(folder), *args)
        self.server = Gunicorn(
            self.upstream.url, self._instance, *args, **({"app": "hosted:app"} | env)
        )
        self.url = self.server.url

    def close(self) -> None:
        self.upstream.close()
        self.server.stop()

    def visitor(self) -> Client:
        """Somebody who was here, and so has a cookie."""
        client = Client(self.url, timeout=60)
        assert client.get("/api/conversations").status == 200  # and so there is a database
        return client

    def calls(self, question: str) -> list[Call]:
        """The requests that the upstream got for a question, in order."""
        return [call for call in tuple(self.upstream.calls) if question_of(call) == question]

    def rows(self, query: str, *values: Any) -> list[Any]:
        """What the database has."""
        with sqlite3.connect(self._instance / "chat.db") as database:
            found = database.execute(query, values).fetchall()
        database.close()
        return found

    def wait_until_written(self, answer_id: str) -> None:
        """Wait until every worker would find the whole of an answer that is over."""
        query = (
            "SELECT 1 FROM chatapp_answers WHERE id = ? AND status IN ('done', 'failed', 'stopped')"
        )
        poll(lambda: self.rows(query, answer_id))

    def _answer(self, call: Call) -> None:
        self.scripts.get(question_of(call), speak("Hello", " world", "."))(call)


def question_of(call: Call) -> str:
    """The last thing that the user said."""
    said = [each["content"] for each in call.json["messages"] if each["role"] == "user"]
    return str(said[-1])
