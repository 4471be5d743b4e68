"""The way to the model: the OpenAI SDK for the request, our own reading of the answer's bytes.

The SDK makes the request and raises its errors. Its retries are off, for each may be billed; what
we repeat, once, was refused by the server before it did any work, for an option of the request.
"""

import logging
import os
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

import httpx2
import openai

from ..answers.text.tokens import estimated_prompt
from ..errors import (
    ChatAppError,
    UpstreamAddress,
    UpstreamInvalid,
    UpstreamModelNotFound,
    UpstreamTimeout,
    UpstreamUnconfigured,
)
from ..settings import Settings
from .advice import LATE, WRONG_ADDRESS, refused_options
from .chunks import ChunkReader
from .completion_stream import CompletionStream, ReadBody
from .errors import report_of, translate_errors, way
from .model_catalog import LIST_SECONDS, MAX_LIST_BYTES, ModelCatalog
from .refused_options import RefusedOptions, asked_for, without
from .scrubbing import keys_of
from .transport import Cancellation, GuardedTransport, current_cancellation

logger = logging.getLogger(__name__)

OPENAI_DEFAULT_MODEL: Final = "gpt-5-mini"


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
        self._catalog = ModelCatalog(self._listing)
        self._refused = RefusedOptions()

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
        return self._catalog.first()

    def _listing(self) -> bytes:
        """The upstream's list of models, as it came."""
        cancellation = Cancellation()
        token = current_cancellation.set(cancellation)
        late = threading.Timer(LIST_SECONDS, cancellation.cancel)
        late.daemon = True
        late.start()
        try:
            with translate_errors(""):
                return self._get_models()
        except (UpstreamModelNotFound, UpstreamAddress) as error:
            logger.warning("models: %s: %s", error.code, error.seen)
            return b""
        except ChatAppError as error:
            logger.warning("models: %s: %s", error.code, error.seen)
            if cancellation.cancelled:
                raise UpstreamTimeout(LATE, seen=error.seen) from None
            raise
        finally:
            late.cancel()
            current_cancellation.reset(token)

    def _get_models(self) -> bytes:
        listed: object = self._client().get(
            "/models", cast_to=httpx2.Response, stream=True, stream_cls=openai.Stream[object]
        )
        response, body = cast(httpx2.Response, listed), bytearray()
        try:
            for piece in response.iter_bytes():
                body += piece
                if len(body) > MAX_LIST_BYTES:
                    raise UpstreamInvalid(
                        "The model's server lists too many models. Set CHATAPP_MODEL.",
                        seen=f"more than {MAX_LIST_BYTES} bytes from {way(response.request)}",
                    )
        finally:
            response.close()
        return bytes(body)

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
        asks_again: Callable[[], None] = lambda: None,
    ) -> CompletionStream:
        """Ask; returns when the upstream has accepted.

        :param messages: the history in OpenAI's form.
        :param options: sampling options by OpenAI's names.
        :param c: closes the connection, from anywhere and in any phase.
        :param in_event_loop: whether the consumer of pieces never waits, so that the event loop may
            call it.
        :param asks_again: called before a second request, without an option that was refused.
        :raises ChatAppError: the upstream refuses or can't be reached.
        """
        token = current_cancellation.set(c)
        try:
            with translate_errors(model, {*options, "stream_options"}):
                response = self._ask_twice(model, messages, options, asks_again)
        finally:
            current_cancellation.reset(token)
        return CompletionStream(
            response,
            c,
            estimated_prompt(messages),
            self._read_body() if in_event_loop else None,
            self._settings.upstream_timeout,
            ChunkReader(self._think_tags(messages), keep="tools" in options),
            self._settings.upstream_wordless,
            keys_of(response.request),
        )

    def _think_tags(self, messages: list[dict[str, Any]]) -> str:
        chosen = self._settings.think_tags
        if chosen == "opened" and messages[-1].get("role") == "assistant":
            return "auto"  # An answer goes on: its text has begun.
        return chosen

    def _ask_twice(self, *asked: Any) -> httpx2.Response:
        """Ask; again where the embedded model has died since: it bills nobody, and starts anew."""
        try:
            return self._ask(*asked)
        except openai.APIConnectionError as error:
            if not self.is_local or isinstance(error, openai.APITimeoutError):
                raise
            return self._ask(*asked)

    def _ask(
        self,
        model: str,
        messages: list[dict[str, Any]],
        options: dict[str, Any],
        asks_again: Callable[[], None],
    ) -> httpx2.Response:
        request = {"model": model, "messages": messages, "stream": True, **options}
        request["stream_options"] = {"include_usage": True}
        request = without(request, self._refused.of(model))
        try:
            return self._post(request)
        except openai.APIStatusError as error:
            refused = refused_options(report_of(error), asked_for(request))
            if not refused:
                raise
        asks_again()
        response = self._post(without(request, refused))
        self._refused.remember(model, refused)
        return response

    def _post(self, request: dict[str, Any]) -> httpx2.Response:
        # `chat.completions.create` sends the same, after 0.1 ms of checks for each message.
        posted: object = self._client().post(
            "/chat/completions",
            body=request,
            cast_to=httpx2.Response,
            stream=True,
            stream_cls=openai.Stream[object],
        )
        response = cast(httpx2.Response, posted)
        if response.request.method != "POST":  # RFC 9110, 15.4.2: a redirect may make it a GET.
            response.close()
            raise UpstreamAddress(WRONG_ADDRESS, seen=way(response.request, response.history))
        return response

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
        given, azure = httpx2.URL(base_url or ""), httpx2.URL(settings.azure_endpoint or "")
        user = azure if settings.azure_endpoint else given
        http = httpx2.Client(
            # The HTTP library logs addresses whole.
            auth=(user.username, user.password) if user.userinfo else None,
            transport=GuardedTransport(self._transport()),
            timeout=timeout,
            trust_env=False,
            follow_redirects=True,
        )
        common: dict[str, Any] = {
            "http_client": http,
            "timeout": timeout,
            "max_retries": 0,
            # What compresses a stream holds it back.
            "default_headers": {"Accept-Encoding": "identity"},
        }
        if settings.azure_endpoint:
            token = settings.azure_ad_token
            return openai.AzureOpenAI(
                azure_endpoint=str(azure.copy_with(userinfo=b"")),
                api_version=settings.azure_api_version,
                azure_ad_token=token,
                api_key=None if token else settings.azure_api_key or settings.api_key,
                **common,
            )
        base_url = base_url and str(given.copy_with(userinfo=b""))
        return openai.OpenAI(base_url=base_url, api_key=api_key, **common)
