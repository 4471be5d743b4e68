"""The way to the model: the OpenAI SDK for the request, our own reading of the answer's bytes.

The SDK makes the request and raises its errors. Its retries are off, for each may be billed; the
two requests that we repeat were refused by the server, before it did any work, for a parameter that
it does not know.
"""

import json
import logging
import os
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

import httpx2
import openai

from ..answers.text.tokens import estimated_tokens, texts_of
from ..errors import ChatAppError, UpstreamInvalid, UpstreamModelNotFound, UpstreamUnconfigured
from ..settings import Settings
from .completion_stream import CompletionStream, ReadBody
from .errors import translate_errors
from .transport import Cancellation, current_cancellation

logger = logging.getLogger(__name__)

OPENAI_DEFAULT_MODEL: Final = "gpt-5-mini"
LIST_SECONDS: Final = 5.0
"""How long an upstream may take to list its models; a visitor waits for it."""


class LocalServer(Protocol):
    """Where the embedded model listens."""

    @property
    def base_url(self) -> str: ...

    @property
    def api_key(self) -> str: ...


class LocalModel(Protocol):
    """The embedded model; `ensure` starts it where it does not run."""

    def ensure(self, timeout: float = 30.0) -> LocalServer: ...


class Upstream:
    """One OpenAI-compatible server.

    :param transport: makes what carries the bytes; called once, in the process that uses it.
    :param local: the embedded model, used when the settings name no upstream.
    :param local_model_id: its model, or None when it can't run here.
    :param not_local: why it can't, and what to do about that.
    :param read_body: for each answer, what passes its bytes on; None: the calling thread.
    """

    def __init__(
        self,
        settings: Settings,
        transport: Callable[[], httpx2.BaseTransport],
        local: LocalModel,
        local_model_id: str | None,
        read_body: Callable[[], ReadBody | None] = lambda: None,
        not_local: str | None = None,
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._read_body = read_body
        self._not_local = not_local
        self._local = local
        self._local_model_id = local_model_id if settings.wants_local_model else None
        self._lock = threading.Lock()
        self._clients: dict[tuple[Any, ...], openai.OpenAI] = {}
        self._listed_model: str | None = None
        self._quirks: set[tuple[str, str]] = set()

    @property
    def is_local(self) -> bool:
        """Whether the embedded model answers."""
        return self._local_model_id is not None

    def prepare(self) -> None:
        """Start the embedded model, where it is to answer, without waiting for it."""
        try:
            self.check_configured()
        except UpstreamUnconfigured as error:
            logger.warning("%s", error.message)
        if self.is_local:
            threading.Thread(target=self._start_local, name="local-model", daemon=True).start()

    def _start_local(self) -> None:
        try:
            self._local.ensure()
        except ChatAppError as error:
            logger.warning("local model: %s", error.message)

    def check_configured(self) -> None:
        """:raises UpstreamUnconfigured: when there is nobody to ask; says what to set."""
        if not (self._settings.upstream_named or self.is_local):
            raise UpstreamUnconfigured(
                self._not_local
                if self._not_local and self._settings.local_model
                else "No model is set up, and the local demo model is switched off. "
                "Set OPENAI_API_KEY, or OPENAI_BASE_URL for another server."
            )

    def default_model(self) -> str:
        """The model that is asked when the visitor names none.

        Where the settings name none either, another server than OpenAI's is asked what it has.
        """
        self.check_configured()
        settings = self._settings
        if known := settings.model or self._local_model_id or next(iter(settings.models), None):
            return known
        if settings.base_url is None:
            return OPENAI_DEFAULT_MODEL
        if self._listed_model is None:
            self._listed_model = self._first_listed()
        return self._listed_model

    def _first_listed(self) -> str:
        client = self._client().with_options(timeout=LIST_SECONDS)
        try:
            with translate_errors(""):
                listed = json.loads(client.models.with_raw_response.list().content)
            model = listed["data"][0]["id"]
        except (LookupError, TypeError, ValueError, UpstreamModelNotFound):
            model = None
        except ChatAppError as error:
            logger.warning("models: %s: %s", error.code, error.seen)
            raise
        if not isinstance(model, str):
            raise UpstreamInvalid("The model's server lists no model. Set CHATAPP_MODEL.")
        return model

    def models(self) -> list[str]:
        """What a visitor may choose; the default comes first."""
        return list(dict.fromkeys([self.default_model(), *self._settings.models]))

    def open(
        self,
        model: str,
        messages: list[dict[str, Any]],
        options: dict[str, Any],
        c: Cancellation,
        in_event_loop: bool = True,
    ) -> CompletionStream:
        """Ask; returns when the upstream has accepted.

        :param messages: the history in OpenAI's form.
        :param options: sampling options by OpenAI's names.
        :param c: closes the connection, from anywhere and in any phase.
        :param in_event_loop: whether the consumer of pieces never waits, so that the event loop may
            call it.
        :raises ChatAppError: the upstream refuses or can't be reached.
        """
        token = current_cancellation.set(c)
        try:
            with translate_errors(model):
                response = self._ask_twice(model, messages, options)
        finally:
            current_cancellation.reset(token)
        prompt = estimated_tokens(text for message in messages for text in texts_of(message))
        read_body = self._read_body() if in_event_loop else None
        return CompletionStream(response, c, prompt, read_body, self._settings.upstream_timeout)

    def _ask_twice(
        self, model: str, messages: list[dict[str, Any]], options: dict[str, Any]
    ) -> httpx2.Response:
        """Ask; again where the embedded model has died since: it bills nobody, and starts anew."""
        try:
            return self._ask(model, messages, options)
        except openai.APIConnectionError as error:
            if not self.is_local or isinstance(error, openai.APITimeoutError):
                raise
            return self._ask(model, messages, options)

    def _ask(
        self, model: str, messages: list[dict[str, Any]], options: dict[str, Any]
    ) -> httpx2.Response:
        client = self._client()
        while True:
            request = self._request(model, messages, options)
            try:
                # `chat.completions.create` sends the same, after 0.1 ms of checks for each message.
                response: object = client.post(
                    "/chat/completions",
                    body=request,
                    cast_to=httpx2.Response,
                    stream=True,
                    stream_cls=openai.Stream[object],
                )
                return cast(httpx2.Response, response)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                quirk = _quirk(error, request)
                if quirk is None:
                    raise
                self._quirks.add((model, quirk))

    def _request(
        self, model: str, messages: list[dict[str, Any]], options: dict[str, Any]
    ) -> dict[str, Any]:
        request = {"model": model, "messages": messages, "stream": True, **options}
        if (model, "stream_options") not in self._quirks:
            request["stream_options"] = {"include_usage": True}
        if (model, "max_tokens") in self._quirks and "max_tokens" in request:
            request["max_completion_tokens"] = request.pop("max_tokens")
        return request

    def _client(self) -> openai.OpenAI:
        """The SDK's client. Made after a fork, never before: two processes can't share a socket."""
        settings = self._settings
        base_url, api_key = settings.base_url, settings.api_key or "unused"
        if self.is_local:
            server = self._local.ensure()
            base_url, api_key = server.base_url, server.api_key
        identity = (os.getpid(), base_url, api_key)
        with self._lock:
            if identity not in self._clients:
                self._clients = {identity: self._make_client(base_url, api_key)}
            return self._clients[identity]

    def _make_client(self, base_url: str | None, api_key: str) -> openai.OpenAI:
        settings = self._settings
        timeout = httpx2.Timeout(
            connect=settings.upstream_connect_timeout,
            read=settings.upstream_timeout,
            write=30.0,
            pool=5.0,
        )
        http = httpx2.Client(
            transport=self._transport(), timeout=timeout, trust_env=False, follow_redirects=True
        )
        common: dict[str, Any] = {
            "http_client": http,
            "timeout": timeout,
            "max_retries": 0,
            # What compresses a stream holds it back.
            "default_headers": {"Accept-Encoding": "identity"},
        }
        if settings.azure_endpoint:
            return openai.AzureOpenAI(azure_endpoint=settings.azure_endpoint, **common)
        return openai.OpenAI(base_url=base_url, api_key=api_key, **common)


def _quirk(error: openai.APIStatusError, request: dict[str, Any]) -> str | None:
    """The parameter that this server refuses though most know it."""
    if "stream_options" in request and "stream_options" in error.message:
        return "stream_options"
    if "max_tokens" in request and "max_completion_tokens" in error.message:
        return "max_tokens"
    return None
