"""The application with a database of its own, and visitors of it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from notes import create_app

PASSWORD = "correct horse battery staple"


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    database = f"sqlite:///{tmp_path}/notes.db"
    return create_app(
        {"TESTING": True, "SECRET_KEY": "for tests", "SQLALCHEMY_DATABASE_URI": database}
    )


@pytest.fixture
def sign_up(app: Flask) -> Callable[[str], FlaskClient]:
    """Makes an account; its visitor, logged in."""

    def sign_up(name: str) -> FlaskClient:
        visitor = app.test_client()
        post(visitor, "/sign-up", name=name, password=PASSWORD)
        return visitor

    return sign_up


def post(visitor: FlaskClient, path: str, **fields: str) -> TestResponse:
    """Send a form as a browser does: with the token of the page that it was on."""
    page = visitor.get("/log-in").text
    token = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert token
    return visitor.post(path, data={"csrf_token": token[1], **fields}, follow_redirects=True)
