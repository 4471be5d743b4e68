"""Every option: its name, its default, and what it is for.

The option `max_running` is set by `app.config["CHATAPP_MAX_RUNNING"]` or else by the environment
variable of the same name. The upstream's key and address have the names that the OpenAI SDK and
other tools already use. `docs/settings.md` is generated from this file.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from .settings_costs import CostSettings
from .settings_fields import (
    check_azure,
    check_certificates,
    check_field,
    convert,
    option,
    refuse_unknown,
    variable,
)
from .settings_upstream import UpstreamSettings


@dataclass(frozen=True, kw_only=True)
class Settings(CostSettings, UpstreamSettings):
    """The options of one chat. Frozen: they don't change while the server runs.

    :raises ConfigError: from `load`, for a value of the wrong kind or an unknown name.
    """

    instance: str | None = option(
        None,
        "Folder for the database, the cookie's secret and the local model's files; unset: "
        "Flask's own.",
    )
    database_url: str | None = option(
        None,
        "Where conversations are stored: `postgresql://…` or `sqlite:////…`; unset: the file "
        "`chat.db` in the instance folder. If it is set, run `chatapp migrate` first.",
        hidden=True,
    )
    database_pool: int = option(4, "Maximum database connections per worker.", minimum=1)
    ledger_age: float = option(
        400 * 86_400.0, "Seconds that the ledger entry of an upstream call is kept.", minimum=0
    )
    title: str = option("Chat", "The page's title.")
    secret: str | None = option(
        None,
        "Signs the visitor cookie; unset: the application's `SECRET_KEY`, or one that is generated "
        "once and stored in the instance folder. Several machines must share one. It has at least "
        "16 bytes.",
        mend="secret",
    )
    secret_fallbacks: tuple[str, ...] = option(
        (),
        "Former secrets, comma-separated, the newest first: what they have signed stays valid when "
        "`CHATAPP_SECRET` has changed. With the application's `SECRET_KEY`, its "
        "`SECRET_KEY_FALLBACKS` are used as well.",
        mend="secret",
    )
    login_required: bool = option(
        False, "Refuse visitors who have not signed in to the application (`not_signed_in`)."
    )
    trusted_proxies: int = option(
        0,
        "How many proxies in front of `wsgi:app` set trustworthy `X-Forwarded-*` headers. In your "
        "own application, use Werkzeug's `ProxyFix` instead.",
        minimum=0,
    )
    hosts: tuple[str, ...] = option(
        (),
        "Names of this server, comma-separated, such as `chat.example`; if set, requests by other "
        "names are refused (`wrong_host`). Requests from the same machine that no trusted proxy "
        "passed on are always refused, unless they name `localhost`, `127.0.0.1`, `[::1]` or one "
        "of these.",
        mend="host",
    )
    operations: bool = option(
        True, "Serve `/healthz`, `/readyz` and `/metrics`; an application may have its own."
    )
    cors_origins: tuple[str, ...] = option(
        (), "Origins of other sites whose pages may use the API, comma-separated."
    )

    eventlog_url: str | None = option(
        None,
        "Where workers find each other's answers: a database URL, `redis://…`, or `memory://` (not "
        "shared between workers); unset: the database.",
        hidden=True,
    )
    flush_interval: float = option(
        0.2,
        "Seconds between writes of running answers to the event log; up to 0.5 with hundreds of "
        "answers.",
        minimum=0.01,
    )
    poll_interval: float = option(
        0.1, "Seconds between reads of what other workers have written.", minimum=0.01
    )
    lease: float = option(
        3.0, "Seconds of silence after which a worker is presumed dead.", minimum=1
    )
    busy_lease: float = option(
        30.0,
        "Seconds for which a worker whose event loop is held up, as by a hook that computes, keeps "
        "its answers. Below gunicorn's `timeout`.",
        minimum=1,
    )
    takeover: str = option(
        "fail",
        "What happens to a dead worker's answers: `fail` ends them as `interrupted`, `continue` "
        "has the model continue where they broke off.",
        choices=("fail", "continue"),
    )
    prefill: str = option(
        "plain",
        "How to ask the upstream to continue its own text: `plain` sends it as a last assistant "
        "message; `vllm` and `deepseek` add what these need.",
        choices=("plain", "vllm", "deepseek"),
    )

    heartbeat: float = option(
        15.0, "Seconds of silence after which a reader gets a comment line.", minimum=0.01
    )
    direct_writes: bool = option(
        True,
        "Write directly to the reader's socket, past the server's own loop, if a stream's first "
        "block was seen to arrive there unchanged. False: WSGI middleware gets every block.",
    )
    start_wait: float = option(
        1.0,
        "Seconds that the reply to a question waits for the upstream to accept or refuse it.",
        minimum=0,
    )
    abandon_after: float = option(
        0.0, "Seconds without any reader after which an answer is stopped; 0: never.", minimum=0
    )
    send_timeout: float = option(
        20.0, "Seconds after which a reader that takes nothing is disconnected.", minimum=0.1
    )
    body_timeout: float = option(
        10.0, "Seconds within which a request's body must arrive.", minimum=0.1
    )
    drain_margin: float = option(
        5.0,
        "Seconds before the end of the grace period at which readers of answers that still run "
        "are told to reconnect.",
        minimum=1,
    )

    tool_rounds: int = option(
        8,
        "Rounds in which the model may call tools within one answer; then it must answer without.",
        minimum=1,
    )
    tool_timeout: float = option(
        30.0,
        "Seconds that a tool may take, unless it is registered with its own limit.",
        minimum=0.001,
    )
    tool_max_bytes: int = option(
        32_768,
        "Maximum bytes of a tool's result, unless it is registered with its own limit.",
        minimum=1,
    )
    hook_stall: float = option(
        0.1,
        "Seconds for which a hook, a tool or the log-in may block a gevent worker before the log "
        "names it.",
        minimum=0.001,
    )
    ticket_age: int = option(
        300, "Seconds that a ticket for an `EventSource` of another origin is valid.", minimum=1
    )

    max_running: int = option(
        2000, "Concurrent answers in one worker; more are `too_many_answers`.", minimum=1
    )
    message_max_chars: int = option(
        200_000, "Maximum characters of a message; more is `invalid_request`.", minimum=1
    )
    history_max_messages: int = option(
        1000, "Maximum messages of a history; more is `invalid_request`.", minimum=1
    )
    client_histories: bool = option(
        True, "Let clients send whole histories (`messages`). False: `not_allowed`."
    )
    client_system: bool = option(
        True,
        "Let clients send messages of the roles `system` and `developer` in histories. False: "
        "`not_allowed`.",
    )
    client_options: bool = option(
        True,
        "Let clients set sampling options, and a system prompt for a conversation. False: "
        "`not_allowed`.",
    )
    client_max_tokens: int = option(
        32_768,
        "Maximum `max_tokens` that a client may ask for; more is `invalid_request`.",
        minimum=1,
    )
    history_max_tokens: int = option(
        100_000,
        "Maximum tokens of a history sent upstream, estimated; its oldest messages are left out.",
        minimum=1,
    )
    answer_max_chars: int = option(
        2_000_000, "Maximum characters of an answer; there it ends with `length`.", minimum=1
    )
    log_max_bytes: int = option(
        4 << 20,
        "Maximum bytes of an answer's log; beyond, its oldest events are dropped, and a reader "
        "that needs them gets a snapshot.",
        minimum=1024,
    )
    logs_max_bytes: int = option(
        256 << 20,
        "Maximum bytes of all logs in one worker; beyond, the oldest ended ones are dropped.",
        minimum=1024,
    )
    answers_kept: int = option(10_000, "Ended answers whose logs a worker keeps.", minimum=0)
    answer_age: float = option(
        3600.0, "Seconds that an ended answer's log and its idempotency key are kept.", minimum=0
    )
    eventlog_max_bytes: int = option(
        1 << 30,
        "Maximum bytes of the event log; beyond, the oldest ended answers are dropped.",
        minimum=1024,
    )
    conversations_kept: int = option(
        10_000, "Maximum conversations of one owner; more are `invalid_request`.", minimum=1
    )
    messages_kept: int = option(
        20_000, "Maximum messages of one owner; more are `invalid_request`.", minimum=2
    )
    prompt_max_chars: int = option(
        8000,
        "Maximum characters of a conversation's own system prompt; more is `invalid_request`.",
        minimum=1,
    )
    visitor_age: float = option(
        30 * 86_400.0,
        "Seconds since its last question after which a conversation is deleted, if its owner has "
        "not signed in; 0: never.",
        minimum=0,
    )
    empty_age: float = option(
        3600.0,
        "The same for a conversation without a question; 0: as one with questions.",
        minimum=0,
    )
    storage_max_bytes: int = option(
        10 << 30,
        "Maximum bytes that the database may hold before questions and conversations are refused "
        "with `storage_full`; 0: no limit.",
        minimum=0,
    )
    push_kept: int = option(1000, "Publications kept for pages that reconnect.", minimum=1)
    push_age: float = option(600.0, "Seconds that a publication is kept.", minimum=0)
    # The minimum has room for the publications of the chat itself.
    push_max_bytes: int = option(65_536, "Maximum bytes of a publication.", minimum=1024)

    @classmethod
    def load(cls, config: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Self:
        """Settings from an application's config, then from the environment."""
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        known = {variable(each): each for each in fields(cls)}
        for source in (environ, config):
            refuse_unknown(source, known)
            for name, each in known.items():
                given = source.get(name)
                if given not in (None, "") and (value := convert(name, given, each)) is not None:
                    values[each.name] = value
        check_certificates(environ)
        check_azure(settings := cls(**values))
        return settings

    def changed(self, options: Mapping[str, Any]) -> Self:
        """These settings with some of them replaced.

        :param options: by the names of the fields.
        :raises ConfigError:
        """
        known = {each.name: each for each in fields(self)}
        values: dict[str, Any] = {}
        for name, value in options.items():
            check_field(name, known)
            values[name] = None if value is None else convert(name, value, known[name])
        check_azure(settings := replace(self, **values))
        return settings
