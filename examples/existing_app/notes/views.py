"""Sign up, log in, and write notes that nobody else sees."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required, login_user, logout_user
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from .models import Note, User, db

MAX_NAME = 80
MIN_PASSWORD = 12
MAX_TEXT = 1000

blueprint = Blueprint("notes", __name__)


@blueprint.get("/")
@login_required
def index() -> str:
    """The reader's own notes."""
    notes = db.session.scalars(select(Note).filter_by(user_id=current_user.id).order_by(Note.id))
    return render_template("notes.html", notes=notes.all(), text_most=MAX_TEXT)


@blueprint.post("/")
@login_required
def add() -> ResponseReturnValue:
    """Keep a note."""
    text = request.form["text"].strip()[:MAX_TEXT]
    if text:
        db.session.add(Note(user_id=current_user.id, text=text))
        db.session.commit()
    return redirect(url_for(".index"))


@blueprint.get("/log-in")
def log_in() -> str:
    """The form for those who are known, and for those who are not."""
    return render_template("log_in.html", name_most=MAX_NAME, password_least=MIN_PASSWORD)


@blueprint.post("/log-in")
def enter() -> ResponseReturnValue:
    """Log in."""
    user = db.session.scalar(select(User).filter_by(name=request.form["name"]))
    if user is None or not user.has_password(request.form["password"]):
        flash("Name or password is wrong.")
        return redirect(url_for(".log_in"))
    login_user(user)
    return redirect(url_for(".index"))


@blueprint.post("/sign-up")
def sign_up() -> ResponseReturnValue:
    """Make an account, and log in."""
    name, password = request.form["name"].strip(), request.form["password"]
    if not 1 <= len(name) <= MAX_NAME or len(password) < MIN_PASSWORD:
        flash(f"A name, and a password of {MIN_PASSWORD} characters or more, please.")
        return redirect(url_for(".log_in"))
    user = User(name=name)
    user.set_password(password)
    db.session.add(user)
    try:
        db.session.commit()
    except IntegrityError:
        db.session.rollback()
        flash("This name is taken.")
        return redirect(url_for(".log_in"))
    login_user(user)
    return redirect(url_for(".index"))


@blueprint.post("/log-out")
@login_required
def log_out() -> ResponseReturnValue:
    """Log out."""
    logout_user()
    return redirect(url_for(".log_in"))


def not_found(_error: Exception) -> ResponseReturnValue:
    """The application's own page for an address that does not exist."""
    return render_template("not_found.html"), 404
