"""The SDK's errors as ours: what the visitor is told, and what the operator finds in the log."""

import contextlib
import email.utils
import math
import time
from collections.abc import Collection, Iterator
from typing import Final

import httpx2
import openai

from ..errors import (
    SEEN_CHARS,
    ChatAppError,
    UpstreamAddress,
    UpstreamInvalid,
    UpstreamTimeout,
    UpstreamUnconfigured,
    UpstreamUnreachable,
)
from .advice import DOWN, LATE, WRONG_ADDRESS, error_for
from .reports import Report
from .scrubbing import hidden, keys_of, scrubbed, without_secrets
from .transport import Proxies, RedirectedAway, UnwantedResponse

WRONG_WAYS: Final = (httpx2.TooManyRedirects, httpx2.UnsupportedProtocol, RedirectedAway)
"""Errors that tell of a wrong address."""
MAX_ID_CHARS: Final = 100


@contextlib.contextmanager
def translate_errors(model: str, asked: Collection[str] = ()) -> Iterator[None]:
    """The SDK's errors as ours.

    :param model: that is asked.
    :param asked: the options of the request, by the names that the visitor knows.
    :raises ChatAppError: `seen` has what the upstream said, and who that is.
    """
    try:
        yield
    except openai.APITimeoutError as error:
        raise UpstreamTimeout(LATE, seen=f"{way(error.request)}: {error.__cause__!r}") from None
    except openai.APIConnectionError as error:
        cause = error.__cause__
        told = f"{way(error.request)}: {cause!r}{hint(cause)}"
        seen = scrubbed(told, keys_of(error.request))
        if isinstance(cause, WRONG_WAYS):
            raise UpstreamAddress(WRONG_ADDRESS, seen=seen) from None
        if isinstance(cause, UnwantedResponse):
            unreadable = "The model's server sent something unreadable."
            raise UpstreamInvalid(unreadable, seen=seen) from None
        raise UpstreamUnreachable(DOWN, seen=seen) from None
    except openai.APIStatusError as error:
        raise refusal(error.response, error.response.text, model, asked) from None
    except httpx2.HTTPError as error:
        raise UpstreamUnreachable(DOWN, seen=scrubbed(repr(error))) from None
    except openai.OpenAIError as error:
        raise UpstreamUnconfigured(
            "The model's server is not set up completely; our log says what is missing.",
            seen=repr(error),
        ) from None


def refusal(
    response: httpx2.Response, text: str, model: str, asked: Collection[str]
) -> ChatAppError:
    """Ours for an HTTP error of the upstream's, whose body is `text`."""
    report, keys = Report.of_reply(response.status_code, text), keys_of(response.request)
    error = error_for(report, model, asked, retry_after(response.headers))
    error.seen = (
        f"status {response.status_code} from {way(response.request, response.history)}, "
        f"its request {response.headers.get('x-request-id', '')[:MAX_ID_CHARS]!r}: "
        f"{hidden(text, keys)[:SEEN_CHARS]!r}"
    )
    return without_secrets(error, keys)


def report_of(error: openai.APIStatusError) -> Report:
    """The refusal, from its whole body: the SDK's message has a part of it."""
    return Report.of_reply(error.status_code, error.response.text)


def way(request: httpx2.Request, redirects: Collection[httpx2.Response] = ()) -> str:
    """Whom a request went to and how, for the log: without keys, passwords and queries."""
    told = f"{request.method} {address(request.url)}"
    for response in redirects:
        told += f", redirected from {address(response.request.url)}"
    with contextlib.suppress(httpx2.UnsupportedProtocol):
        if proxy := Proxies.from_environment().proxy_for(request.url):
            told += f", by the proxy {address(proxy.url)}"
    return told


def address(url: httpx2.URL) -> str:
    path = url.raw_path.partition(b"?")[0]
    return f"{url.scheme}://{(url.netloc + path).decode('ascii')}".rstrip("/")


def hint(cause: BaseException | None) -> str:
    """What an operator may do about a connection that fails."""
    if "CERTIFICATE_VERIFY_FAILED" in repr(cause):
        return "; SSL_CERT_FILE names the certificates that are trusted"
    return ""


def retry_after(headers: httpx2.Headers) -> float | None:
    """Seconds to wait; RFC 9110, 10.2.3: a number of seconds or a date."""
    given = headers.get("retry-after")
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(given).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), 86_400.0)
