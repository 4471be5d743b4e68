"""A notebook, for those who have an account."""

from collections.abc import Mapping
from typing import Any

from flask import Flask, Response
from flask_login import LoginManager
from flask_wtf.csrf import CSRFProtect

from chatapp import ChatApp

from . import views
from .models import User, db

chat = ChatApp(options={"login_required": True})
csrf = CSRFProtect()
login_manager = LoginManager()
login_manager.login_view = "notes.log_in"


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """The application. Each `NOTES_…` in the environment sets an option of its config."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///notes.db"
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    app.config.from_prefixed_env("NOTES")
    app.config.from_mapping(config or {})
    if not app.secret_key:
        raise RuntimeError("Set NOTES_SECRET_KEY, for example to what `openssl rand -hex 32` says.")

    db.init_app(app)
    csrf.init_app(app)
    login_manager.init_app(app)
    chat.init_app(app, url_prefix="/chat")
    csrf.exempt(app.blueprints["chatapp"])
    app.register_blueprint(views.blueprint)
    app.register_error_handler(404, views.not_found)
    app.after_request(allow_own_files_only)
    with app.app_context():
        db.create_all()
    return app


def allow_own_files_only(response: Response) -> Response:
    """No inline script and nothing of other hosts, whatever gets into a page."""
    response.headers.setdefault("Content-Security-Policy", "default-src 'self'")
    return response


@login_manager.user_loader
def load_user(user_id: str) -> User | None:
    """Who is logged in, by what the session says."""
    return db.session.get(User, int(user_id))
