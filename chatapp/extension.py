"""`ChatApp`: the chat as a Flask extension."""

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, overload

from flask import Flask, current_app

from . import gunicorn_hooks
from .errors import ConfigError
from .generation.hooks import After, Before, DeltaHook, Hooks
from .generation.tools.registry import Tools
from .identity import owners
from .runtime.stall_watch import StallWatch
from .service.components import Components
from .settings import Settings
from .views.blueprint import build_blueprint
from .wiring import build_components

logger = logging.getLogger(__name__)

NAME: Final = "chatapp"
CHAT_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)

F = TypeVar("F", bound=Callable[..., Any])


class ChatApp:
    """The chat, mounted in a Flask application.

    `ChatApp(app, url_prefix="/chat")`, or `init_app` later if a factory makes the application.
    Options are read from `app.config` (`CHATAPP_*`) and the environment. Nothing else of the
    application is touched.

    What the decorators register belongs to this object. It is used in every application that the
    object is mounted in, also if it is registered later.

    :param name: of the chat; several in one application need different names. It is also the
        blueprint's: `url_for("chatapp.page")` is the chat's address.
    :param options: fields of `Settings` that take precedence over the application's config, e.g.
        for the second chat of an application: `{"model": "gpt-5"}`.
    :raises ConfigError: an option is unknown or invalid, or the application has this chat already.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        url_prefix: str | None = None,
        name: str = NAME,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if not CHAT_NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r} can't name a chat. Use lower-case letters, like 'support'."
            )
        self.name = name
        self._options = dict(options or {})
        self._log_in: Callable[[], object] | None = None
        self._before: list[Before] = []
        self._piece: list[DeltaHook] = []
        self._after: list[After] = []
        self._failed: list[After] = []
        self._tools: list[tuple[Callable[..., Any], dict[str, Any]]] = []
        self._registries: list[Tools] = []
        if app is not None:
            self.init_app(app, url_prefix=url_prefix)

    def init_app(self, app: Flask, *, url_prefix: str | None = None) -> Settings:
        """Mount the chat at `url_prefix`. Returns the options that it runs with."""
        if extension_key(self.name) in app.extensions:
            raise ConfigError(
                f"This application already has a chat {self.name!r}. Call init_app once, or name "
                "the second one: ChatApp(name=…)."
            )
        settings = Settings.load(app.config).changed(self._options)
        watch = StallWatch(settings.hook_stall)
        components = build_components(
            app, settings, self.name, *self._hooks_and_tools(app, settings, watch)
        )
        app.extensions[extension_key(self.name)] = components
        gunicorn_hooks.register(components)
        blueprint = build_blueprint(components, self.name, lambda: self._log_in, watch)
        app.register_blueprint(blueprint, url_prefix=url_prefix)
        return settings

    def owner(self, function: Callable[[], object]) -> Callable[[], object]:
        """Decorates the application's log-in, which returns the id of the user, or None.

        It is called in each request to the chat; None is answered with `not_signed_in`. Without it,
        Flask-Login is used if the application has it; else a cookie tells visitors apart.
        """
        self._log_in = function
        return function

    def before_answer(self, hook: Before) -> Before:
        """Decorates a function that may change the request to the model, or raise `Refused`."""
        self._before.append(hook)
        return hook

    def on_piece(self, hook: DeltaHook) -> DeltaHook:
        """Decorates a function that gets each piece before any reader does.

        It may raise `StopAnswer`.
        """
        self._piece.append(hook)
        return hook

    def after_answer(self, hook: After) -> After:
        """Decorates a function that gets each answer that was completed or stopped."""
        self._after.append(hook)
        return hook

    def on_failure(self, hook: After) -> After:
        """Decorates a function that gets each answer that failed."""
        self._failed.append(hook)
        return hook

    @overload
    def tool(self, function: F) -> F: ...
    @overload
    def tool(
        self, *, name: str | None = ..., timeout: float | None = ..., max_bytes: int | None = ...
    ) -> Callable[[F], F]: ...

    def tool(self, function: Any = None, **options: Any) -> Any:
        """Decorates a function that the model may call; type hints and docstring describe it.

        :param name: the tool's name for the model; None: the function's own.
        :param timeout: seconds that a call may take; None: `CHATAPP_TOOL_TIMEOUT`.
        :param max_bytes: of a result; None: `CHATAPP_TOOL_MAX_BYTES`.
        :raises TypeError: its parameters can't be described; the message says what to do.
        """

        def register(tool: F) -> F:
            for registry in self._registries or [_scratch()]:
                registry.register(tool, **options)
            self._tools.append((tool, options))
            return tool

        return register if function is None else register(function)

    def publish(self, event: str, data: Any, to: str | None = None) -> None:
        """Send an event to all open pages, or to those of one owner. Needs an app context.

        :param event: the name that an `EventSource` listens for.
        :param data: anything that JSON can express.
        :param to: an owner, as the log-in or a hook names them; None: everyone.
        :raises InvalidRequest: the name or the data can't be sent.
        """
        components: Components = current_app.extensions[extension_key(self.name)]
        addressee = None if to is None else owners.inside(self.name, to)
        components.service.pubsub.publish(event, data, addressee)

    def forget(self, owner: str) -> None:
        """Delete all that an owner has, e.g. along with an account. Needs an app context.

        Their open streams end, as with `disconnect`. What stays are the ledger's entries, under a
        pseudonym.

        :param owner: as for `publish`.
        :raises StorageUnavailable:
        """
        components: Components = current_app.extensions[extension_key(self.name)]
        components.service.forget_owner(owners.inside(self.name, owner))

    def disconnect(self, owner: str) -> None:
        """End an owner's event streams in all workers, e.g. at log-out. Needs an app context.

        The clients reconnect within a second, and are then who their new request says.

        :param owner: as for `publish`.
        """
        components: Components = current_app.extensions[extension_key(self.name)]
        components.service.disconnect(owners.inside(self.name, owner))

    def _hooks_and_tools(
        self, app: Flask, settings: Settings, watch: StallWatch
    ) -> tuple[Hooks, Tools]:
        hooks = Hooks(watch, app.app_context)
        hooks.before, hooks.piece = self._before, self._piece
        hooks.after, hooks.failed = self._after, self._failed
        tools = Tools(settings.tool_timeout, settings.tool_max_bytes, watch, app.app_context)
        for function, options in self._tools:
            tools.register(function, **options)
        self._registries.append(tools)
        return hooks, tools


def extension_key(name: str) -> str:
    """The key of a chat's components in `app.extensions`."""
    return NAME if name == NAME else f"{NAME}.{name}"


def _scratch() -> Tools:
    """Checks a tool's description before there is an application."""
    return Tools(1.0, 1, StallWatch(1.0))
