"""The notebook keeps its promises."""

from collections.abc import Callable

from flask import Flask
from flask.testing import FlaskClient

from notes.models import User, db
from tests.conftest import PASSWORD, post

SignUp = Callable[[str], FlaskClient]


def test_strangers_are_sent_to_the_log_in(app: Flask) -> None:
    reply = app.test_client().get("/")
    assert reply.status_code == 302
    assert reply.location.startswith("/log-in")


def test_a_note_is_kept(sign_up: SignUp) -> None:
    ada = sign_up("Ada")
    post(ada, "/", text="Buy milk <b>")
    assert "<li>Buy milk &lt;b&gt;</li>" in ada.get("/").text


def test_notes_are_their_writers_only(sign_up: SignUp) -> None:
    ada, bob = sign_up("Ada"), sign_up("Bob")
    post(ada, "/", text="A secret")
    assert "A secret" not in bob.get("/").text


def test_who_knows_the_password_gets_in_again(app: Flask, sign_up: SignUp) -> None:
    post(sign_up("Ada"), "/", text="Still here")
    visitor = app.test_client()
    assert "is wrong" in post(visitor, "/log-in", name="Ada", password="a guess").text
    assert "is wrong" in post(visitor, "/log-in", name="Eve", password=PASSWORD).text
    assert "Still here" in post(visitor, "/log-in", name="Ada", password=PASSWORD).text


def test_who_logs_out_is_a_stranger(sign_up: SignUp) -> None:
    ada = sign_up("Ada")
    post(ada, "/log-out")
    assert ada.get("/").status_code == 302


def test_a_name_can_be_taken_once(app: Flask, sign_up: SignUp) -> None:
    sign_up("Ada")
    visitor = app.test_client()
    assert "is taken" in post(visitor, "/sign-up", name="Ada", password=PASSWORD).text
    assert visitor.get("/").status_code == 302


def test_short_passwords_are_refused(app: Flask) -> None:
    visitor = app.test_client()
    assert "12 characters" in post(visitor, "/sign-up", name="Ada", password="short").text


def test_no_password_is_kept(app: Flask, sign_up: SignUp) -> None:
    sign_up("Ada")
    with app.app_context():
        kept = db.session.scalars(db.select(User.password_hash)).one()
    assert kept.startswith("scrypt:")
    assert PASSWORD not in kept


def test_forms_of_other_sites_are_refused(sign_up: SignUp) -> None:
    ada = sign_up("Ada")
    assert ada.post("/", data={"text": "Forged"}).status_code == 400
    assert "Forged" not in ada.get("/").text


def test_unknown_addresses_get_the_notebooks_own_page(app: Flask) -> None:
    reply = app.test_client().get("/nowhere")
    assert reply.status_code == 404
    assert "not in the notebook" in reply.text


def test_pages_allow_no_foreign_script(app: Flask) -> None:
    policy = app.test_client().get("/log-in").headers["Content-Security-Policy"]
    assert policy == "default-src 'self'"
