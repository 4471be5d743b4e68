"""What is told to a visitor when the upstream refuses, or can't be reached."""

import contextlib
import email.utils
import math
import time
from collections.abc import Iterator

import httpx2
import openai

from ..errors import (
    SEEN_CHARS,
    ChatAppError,
    UpstreamAuth,
    UpstreamBusy,
    UpstreamError,
    UpstreamModelNotFound,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnconfigured,
    UpstreamUnreachable,
)


@contextlib.contextmanager
def translate_errors(model: str) -> Iterator[None]:
    """The SDK's errors as ours.

    :param model: that is asked.
    :raises ChatAppError: `seen` has what the upstream said.
    """
    try:
        yield
    except openai.APITimeoutError as error:
        raise UpstreamTimeout(
            "The model's server did not answer in time. Try again.", seen=repr(error.__cause__)
        ) from None
    except openai.APIConnectionError as error:
        url = error.request.url
        raise UpstreamUnreachable(
            "The model's server can't be reached. Try again in a moment.",
            seen=f"no connection to {url.host}:{url.port}: {error.__cause__!r}",
        ) from None
    except openai.APIStatusError as error:
        refused = refusal(error, model)
        request, said = error.request_id, error.message[:SEEN_CHARS]
        refused.seen = f"status {error.status_code}, its request {request!r}: {said!r}"
        raise refused from None
    except openai.OpenAIError as error:
        raise UpstreamUnconfigured(
            "The model's server is not set up completely; our log says what is missing.",
            seen=repr(error),
        ) from None


def refusal(error: openai.APIStatusError, model: str) -> ChatAppError:
    """Ours for an HTTP error of the upstream's."""
    status, wait = error.status_code, retry_after(error.response.headers)
    if status in (401, 403):
        return UpstreamAuth(
            "The model's server does not accept this server's key. Tell whoever runs this site."
        )
    if status == 404:
        return UpstreamModelNotFound(
            f"The model's server has no model {model!r}. Choose another one.", param="model"
        )
    if status == 429:
        pause = "in a moment" if wait is None else f"in {max(round(wait), 1)} s"
        return UpstreamBusy(f"The model is busy; try again {pause}.", retry_after=wait)
    if status in (408, 504):
        return UpstreamTimeout("The model's server did not answer in time. Try again.")
    if status == 503:
        return UpstreamOverloaded(
            "The model's server is overloaded or starting. Try again in a moment.", retry_after=wait
        )
    if status >= 500:
        return UpstreamError("The model's server has a fault. Try again in a moment.")
    return UpstreamRejected(
        "The model's server refuses this request. A shorter conversation or other options may help."
    )


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
