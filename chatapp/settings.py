"""Every option: its name, its default, and why one would change it.

An option `max_running` is set by `app.config["CHATAPP_MAX_RUNNING"]` or, where the application says
nothing, by the environment variable of the same name. The upstream's key and address keep the
names that the OpenAI SDK and other tools already use. `docs/settings.md` is made from this file.
"""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from .errors import ConfigError
from .settings_fields import (
    check_azure,
    check_certificates,
    convert,
    option,
    refuse_unknown,
    variable,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of one chat. Frozen: a running server's limits don't move.

    :raises ConfigError: from `load`, for a value of the wrong kind or an unknown name.
    """

    api_key: str | None = option(
        None, "The upstream's key. Stays on the server.", env="OPENAI_API_KEY", mend="key"
    )
    base_url: str | None = option(
        None,
        "The upstream's address up to and with `/v1`; unset: OpenAI's.",
        env="OPENAI_BASE_URL",
        mend="address",
    )
    azure_endpoint: str | None = option(
        None,
        "An Azure OpenAI resource, `https://….openai.azure.com`; needs `OPENAI_API_VERSION` and a "
        "key. `CHATAPP_MODEL` is a deployment's name then.",
        env="AZURE_OPENAI_ENDPOINT",
        mend="azure_address",
    )
    azure_api_version: str | None = option(
        None, "Of Azure's API, such as `2024-10-21`.", env="OPENAI_API_VERSION", mend="word"
    )
    azure_api_key: str | None = option(
        None,
        "The key of an Azure resource; unset: `OPENAI_API_KEY`.",
        env="AZURE_OPENAI_API_KEY",
        mend="key",
    )
    azure_ad_token: str | None = option(
        None,
        "A token of Microsoft Entra's, in place of an Azure key.",
        env="AZURE_OPENAI_AD_TOKEN",
        mend="key",
    )
    model: str | None = option(
        None,
        "The model that is asked; unset: the first of `CHATAPP_MODELS`, `gpt-5-mini` at OpenAI, "
        "else the first that the upstream lists.",
        mend="word",
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
    think_tags: str = option(
        "auto",
        "Reasoning that a model writes into its text: `auto` takes `<think>…</think>`, or tags "
        "like these, at an answer's beginning for it; `opened` does so from the first word, for a "
        "model whose template has written `<think>` itself; `off` leaves it text.",
        choices=("auto", "opened", "off"),
    )
    upstream_connect_timeout: float = option(5.0, "Seconds to reach the upstream.", minimum=0.001)
    upstream_timeout: float = option(
        300.0,
        "Seconds the upstream may be silent; a reasoning model thinks for minutes.",
        minimum=0.001,
    )

    instance: str | None = option(
        None,
        "Folder for the database, the cookie's secret and the local model's files; unset: "
        "Flask's own.",
    )
    database_url: str | None = option(
        None,
        "Where conversations are kept: `postgresql://…` or `sqlite:////…`; unset: the file "
        "`chat.db` in the instance folder. Another one than that needs `chatapp migrate`.",
    )
    database_pool: int = option(
        4, "Connections to the database that one worker has at the most.", minimum=1
    )
    ledger_age: float = option(
        400 * 86_400.0, "Seconds that the record of an upstream call is kept.", minimum=0
    )
    title: str = option("Chat", "The page's title.")
    secret: str | None = option(
        None,
        "Signs the visitor cookie; unset: the application's `SECRET_KEY`, or one made once and "
        "kept in the instance folder. Several machines need the same.",
    )
    login_required: bool = option(
        False, "Refuse visitors who have not signed in to the application, as `not_signed_in`."
    )
    trusted_proxies: int = option(
        0,
        "Proxies before `wsgi:app` whose `X-Forwarded-*` headers are true; an application with a "
        "chat uses werkzeug's `ProxyFix` itself.",
        minimum=0,
    )
    operations: bool = option(
        True, "Serve `/healthz`, `/readyz` and `/metrics`; an application may have its own."
    )
    cors_origins: tuple[str, ...] = option(
        (), "Origins of other sites whose pages may use the API, separated by commas."
    )

    eventlog_url: str | None = option(
        None,
        "Where the workers find each other's answers: an SQL address, `redis://…`, or `memory://` "
        "(no other worker finds them); unset: the database.",
    )
    flush_interval: float = option(
        0.2,
        "Seconds between writes of running answers to the event log; with hundreds of them more, "
        "up to 0.5.",
        minimum=0.01,
    )
    poll_interval: float = option(
        0.1, "Seconds between looks at what other workers have written.", minimum=0.01
    )
    lease: float = option(
        3.0, "Seconds of silence after which a worker's answers are another's.", minimum=1
    )
    busy_lease: float = option(
        30.0,
        "Seconds for which a worker whose event loop is held up, as by a hook that computes, keeps "
        "its answers. Below gunicorn's `timeout`.",
        minimum=1,
    )
    takeover: str = option(
        "fail",
        "What becomes of a lost worker's answers: `fail` ends them as `interrupted`, `continue` "
        "has the model go on where they broke off.",
        choices=("fail", "continue"),
    )
    prefill: str = option(
        "plain",
        "How the upstream is asked to continue its own words: `plain` as a last message of the "
        "assistant's, or as `vllm` or `deepseek` want it.",
        choices=("plain", "vllm", "deepseek"),
    )

    heartbeat: float = option(
        15.0, "Seconds of silence after which a follower gets a comment line.", minimum=0.01
    )
    direct_writes: bool = option(
        True,
        "Write pieces to the reader's socket past the server's own loop, where a stream's first "
        "block was seen to leave unchanged. False: WSGI middleware gets every block.",
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

    rate_limit: str | None = option(
        None,
        "Questions that one owner may ask, as in `20/minute;200/day`; more are `rate_limited`. As "
        "many conversations may be made without a question. Needs the `limits` extra.",
    )
    rate_limit_all: str | None = option(
        None,
        "Questions that all owners together may ask, and conversations that they may make; needs "
        "the `limits` extra, too.",
    )
    rate_limit_storage: str = option(
        "memory://",
        "Where questions are counted: in the memory of each worker, or for all together at "
        "`redis://…`.",
    )
    tokens_per_day: int = option(
        0,
        "Tokens that one owner may use in a day of UTC, prompts included; then `quota_used`. "
        "0: any number.",
        minimum=0,
    )
    max_running_per_owner: int = option(
        16, "Answers of one owner that run at once; more are `too_many_running`.", minimum=1
    )
    tool_rounds: int = option(
        8,
        "Times that the model may call tools within one answer; then it is asked to answer "
        "without.",
        minimum=1,
    )
    tool_timeout: float = option(
        30.0, "Seconds that a tool may take, where it is registered without its own.", minimum=0.001
    )
    tool_max_bytes: int = option(
        32_768,
        "Bytes of a tool's result, where it is registered without its own.",
        minimum=1,
    )
    hook_stall: float = option(
        0.1,
        "Seconds for which a hook, a tool or the log-in may hold up a gevent worker before the "
        "log names it.",
        minimum=0.001,
    )
    ticket_age: int = option(
        300, "Seconds in which a ticket for an `EventSource` of another origin is good.", minimum=1
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
    history_max_tokens: int = option(
        100_000,
        "Tokens of a history that go upstream, estimated; beyond, its oldest messages stay here.",
        minimum=1,
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
    answer_age: float = option(
        3600.0, "Seconds that an ended answer's log and its idempotency key are kept.", minimum=0
    )
    eventlog_max_bytes: int = option(
        1 << 30, "Bytes of the whole event log; beyond, the oldest ended answers go.", minimum=1024
    )
    conversations_kept: int = option(
        10_000, "Conversations of one visitor; more are `invalid_request`.", minimum=1
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
            refuse_unknown(source, known)
            for name, each in known.items():
                given = source.get(name)
                if given not in (None, "") and (value := convert(name, given, each)) is not None:
                    values[each.name] = value
        check_certificates(environ)
        check_azure(settings := cls(**values))
        return settings

    def changed(self, options: Mapping[str, Any]) -> Self:
        """These settings, but for some.

        :param options: by the names of the fields.
        :raises ConfigError:
        """
        known = {each.name: each for each in fields(self)}
        values: dict[str, Any] = {}
        for name, value in options.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0)
                raise ConfigError(f"There is no option {name!r}; the nearest one is {near[0]!r}.")
            values[name] = None if value is None else convert(name, value, known[name])
        check_azure(settings := replace(self, **values))
        return settings

    @property
    def upstream_named(self) -> bool:
        """Whether the settings say whom to ask."""
        return bool(self.api_key or self.base_url or self.azure_endpoint)

    @property
    def wants_local_model(self) -> bool:
        """Whether the embedded model is to answer, because nobody else is named."""
        return self.local_model and not self.upstream_named
