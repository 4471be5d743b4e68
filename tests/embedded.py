"""The chat in a host application that runs inside the test's process."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from chatapp import ChatApp
from tests.client import Sent, parse_all

MakeHost = Callable[..., Flask]


def host(parent: Path, **config: Any) -> Flask:
    """An application without a chat, with a folder of its own below `parent`."""
    folder = tempfile.mkdtemp(dir=parent)
    app = Flask("tests.embedded", instance_path=f"{folder}/instance", root_path=folder)
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
