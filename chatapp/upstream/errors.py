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
    UpstreamTimeout,
    UpstreamUnconfigured,
    UpstreamUnreachable,
)
from .advice import DOWN, LATE, WRONG_ADDRESS, error_for
from .reports import Report
from .transport import Proxies

KEYS: Final = ("authorization", "api-key")
"""Headers that carry a secret."""
MIN_KEY_CHARS: Final = 6
"""A shorter one would be found in ordinary words."""


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
        seen = without_keys(f"{way(error.request)}: {cause!r}{hint(cause)}", error.request)
        if isinstance(cause, httpx2.TooManyRedirects | httpx2.UnsupportedProtocol):
            raise UpstreamAddress(WRONG_ADDRESS, seen=seen) from None
        raise UpstreamUnreachable(DOWN, seen=seen) from None
    except openai.APIStatusError as error:
        raise refusal(error.response, error.response.text, model, asked) from None
    except httpx2.HTTPError as error:
        # The SDK reads a refusal's body, and what breaks off there is no error of its own.
        if refused := _refused_before(error):
            raise refusal(refused, "", model, asked) from None
        raise UpstreamUnreachable(DOWN, seen=repr(error)) from None
    except openai.OpenAIError as error:
        raise UpstreamUnconfigured(
            "The model's server is not set up completely; our log says what is missing.",
            seen=repr(error),
        ) from None


def refusal(
    response: httpx2.Response, text: str, model: str, asked: Collection[str]
) -> ChatAppError:
    """Ours for an HTTP error of the upstream's, whose body is `text`."""
    report = Report.of_reply(response.status_code, text)
    error = error_for(report, model, asked, retry_after(response.headers))
    error.seen = (
        f"status {response.status_code} from {way(response.request, response.history)}, "
        f"its request {response.headers.get('x-request-id')!r}: "
        f"{without_keys(text, response.request)[:SEEN_CHARS]!r}"
    )
    return error


def _refused_before(error: BaseException) -> httpx2.Response | None:
    """The refusal that was read when this happened."""
    context: BaseException | None = error
    while context is not None:
        if isinstance(context, httpx2.HTTPStatusError):
            return context.response
        context = context.__context__
    return None


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


def without_keys(text: str, request: httpx2.Request) -> str:
    """The text, with the keys of the request made unreadable."""
    for name in KEYS:
        key = request.headers.get(name, "").removeprefix("Bearer ")
        if len(key) >= MIN_KEY_CHARS:
            text = text.replace(key, "***")
    return text


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
