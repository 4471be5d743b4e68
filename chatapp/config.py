"""Every option: its name, its default, and why one would change it.

An option `max_running` is set by `app.config["CHATAPP_MAX_RUNNING"]` or, where the application says
nothing, by the environment variable of the same name. The upstream's key and address keep the
names that the OpenAI SDK and other tools already use. `docs/settings.md` is made from this file.
"""

import difflib
import os
import threading
import types
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Self, get_args, get_origin

from .errors import ConfigError

PREFIX = "CHATAPP_"


def option(
    default: Any,
    doc: str,
    *,
    env: str | None = None,
    minimum: float | None = None,
    choices: tuple[str, ...] = (),
    url: bool = False,
) -> Any:
    """A dataclass field that carries its documentation, its variable's name and its bounds."""
    metadata = {"doc": doc, "env": env, "minimum": minimum, "choices": choices, "url": url}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of one chat. Frozen: a running server's limits don't move.

    :raises ConfigError: from `load`, for a value of the wrong kind or an unknown name.
    """

    api_key: str | None = option(
        None, "The upstream's key. Stays on the server.", env="OPENAI_API_KEY"
    )
    base_url: str | None = option(
        None,
        "The upstream's address up to and with `/v1`; unset: OpenAI's.",
        env="OPENAI_BASE_URL",
        url=True,
    )
    azure_endpoint: str | None = option(
        None,
        "An Azure OpenAI resource; `AZURE_OPENAI_API_KEY` and `OPENAI_API_VERSION` go with it.",
        env="AZURE_OPENAI_ENDPOINT",
        url=True,
    )
    model: str | None = option(
        None,
        "The model that is asked; unset: the first of `CHATAPP_MODELS`, `gpt-5-mini` at OpenAI, "
        "else the first that the upstream lists.",
    )
    models: tuple[str, ...] = option(
        (), "Models that a visitor may choose, separated by commas; `model` is always one of them."
    )
    system_prompt: str | None = option(None, "Sent before every conversation.")
    local_model: bool = option(
        True, "With no key and no address, answer by the small model of the `local` extra."
    )
    transport: str = option(
        "fast",
        "What carries the upstream's bytes: `fast` is ours, `stock` the HTTP library's own.",
        choices=("fast", "stock"),
    )
    upstream_connect_timeout: float = option(5.0, "Seconds to reach the upstream.", minimum=0.001)
    upstream_timeout: float = option(
        300.0,
        "Seconds the upstream may be silent; a reasoning model thinks for minutes.",
        minimum=0.001,
    )

    instance: str | None = option(
        None, "Folder for the cookie's secret and the local model's files; unset: Flask's own."
    )
    title: str = option("Chat", "The page's title.")
    secret: str | None = option(
        None,
        "Signs the visitor cookie; unset: the application's `SECRET_KEY`, or one made once and "
        "kept in the instance folder. Several machines need the same.",
    )
    cors_origins: tuple[str, ...] = option(
        (), "Origins of other sites whose pages may use the API, separated by commas."
    )

    heartbeat: float = option(
        15.0, "Seconds of silence after which a follower gets a comment line.", minimum=0.01
    )
    start_wait: float = option(
        1.0,
        "Seconds that the reply to a new question waits for the upstream's yes or no.",
        minimum=0,
    )
    abandon_after: float = option(
        0.0, "Seconds without a follower after which an answer is stopped; 0: never.", minimum=0
    )
    send_timeout: float = option(
        20.0, "Seconds after which a reader that takes nothing is cut off.", minimum=0.1
    )
    body_timeout: float = option(
        10.0, "Seconds in which a request's body must have arrived.", minimum=0.1
    )
    drain_margin: float = option(
        5.0,
        "Seconds before the end of the grace time at which the readers of answers that still run "
        "are told to come back.",
        minimum=1,
    )

    max_running: int = option(
        2000, "Answers that run at once in one worker; more are `too_many_answers`.", minimum=1
    )
    body_max_bytes: int = option(
        4 << 20, "Bytes of a request; more is `body_too_large`.", minimum=1024
    )
    message_max_chars: int = option(
        200_000, "Characters of one message; more is `invalid_request`.", minimum=1
    )
    history_max_messages: int = option(
        1000, "Messages of one history; more is `invalid_request`.", minimum=1
    )
    answer_max_chars: int = option(
        2_000_000, "Characters of one answer; there it ends with `length`.", minimum=1
    )
    log_max_bytes: int = option(
        4 << 20,
        "Bytes of one answer's log; beyond, its oldest events go and readers get a snapshot.",
        minimum=1024,
    )
    logs_max_bytes: int = option(
        256 << 20,
        "Bytes of all logs in one worker; beyond, the oldest ended ones go.",
        minimum=1024,
    )
    answers_kept: int = option(10_000, "Ended answers whose log a worker keeps.", minimum=0)
    answer_age: float = option(3600.0, "Seconds that an ended answer's log is kept.", minimum=0)
    conversations_max_bytes: int = option(
        256 << 20,
        "Bytes of all conversations in memory; beyond, those unused for longest go.",
        minimum=1024,
    )
    push_kept: int = option(1000, "Publications kept for pages that reconnect.", minimum=1)
    push_age: float = option(600.0, "Seconds that a publication is kept.", minimum=0)
    # The least has room for the application's own publications.
    push_max_bytes: int = option(65_536, "Bytes of one publication.", minimum=1024)

    @classmethod
    def load(cls, config: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Self:
        """Settings from an application's config and the environment; the former wins."""
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        known = {variable(each): each for each in fields(cls)}
        for source in (environ, config):
            _refuse_unknown(source, known)
            for name, each in known.items():
                if source.get(name) not in (None, ""):
                    values[each.name] = _convert(name, source[name], each)
                    if each.metadata["url"]:
                        _check_url(name, values[each.name])
        return cls(**values)

    @property
    def upstream_named(self) -> bool:
        """Whether the settings say whom to ask."""
        return bool(self.api_key or self.base_url or self.azure_endpoint)

    @property
    def wants_local_model(self) -> bool:
        """Whether the embedded model is to answer, because nobody else is named."""
        return self.local_model and not self.upstream_named


def variable(each: Field[Any]) -> str:
    """The name under which an option is set."""
    return each.metadata["env"] or PREFIX + each.name.upper()


def _check_url(name: str, value: str) -> None:
    if not value.startswith(("http://", "https://")):
        raise ConfigError(f"{name}={value!r} must begin with http:// or https://.")


def _refuse_unknown(source: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in source:
        if isinstance(name, str) and name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)
            raise ConfigError(f"There is no option {name}; the nearest one is {near[0]}.")


def _convert(name: str, value: Any, each: Field[Any]) -> Any:
    kind: Any = each.type
    if isinstance(kind, types.UnionType):
        kind = get_args(kind)[0]
    try:
        if get_origin(kind) is tuple:
            parts = value.split(",") if isinstance(value, str) else value
            return tuple(part.strip() for part in parts if part.strip())
        if kind is bool:
            return value if isinstance(value, bool) else _TRUTH[str(value).strip().lower()]
        converted = kind(value)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        raise ConfigError(f"{name}={value!r} is not of the kind {kind.__name__}.") from None
    if (choices := each.metadata["choices"]) and converted not in choices:
        raise ConfigError(f"{name}={value!r} is none of {', '.join(choices)}.")
    minimum = each.metadata["minimum"]
    if minimum is not None and not converted >= minimum:
        raise ConfigError(f"{name}={value!r} is too small; the least is {minimum}.")
    if kind is float and converted > threading.TIMEOUT_MAX:
        raise ConfigError(f"{name}={value!r} is more seconds than can be waited.")
    return converted


_TRUTH = dict.fromkeys(("1", "true", "yes", "on"), True)
_TRUTH |= dict.fromkeys(("0", "false", "no", "off"), False)
