"""What can go wrong, as data: a class per code, with its HTTP status and whether to try again.

The codes are a closed list (`CODES`); they appear in error bodies and in `failed` events.
A message is for the person in front of the page: what happened, and what to do. It never carries
an upstream's raw text, a key or a path.
"""

from typing import Any

from .base import SEEN_CHARS as SEEN_CHARS
from .base import ChatAppError as ChatAppError
from .base import ConfigError as ConfigError
from .base import InternalError as InternalError
from .browsers import CrossSite as CrossSite
from .browsers import DuplicateCookie as DuplicateCookie
from .browsers import WrongHost as WrongHost
from .busy import QuotaUsed as QuotaUsed
from .busy import RateLimited as RateLimited
from .busy import SearchBusy as SearchBusy
from .busy import TooManyRunning as TooManyRunning
from .busy import TooManyStreams as TooManyStreams

# What the client did wrong.


class InvalidRequest(ChatAppError):
    code = "invalid_request"
    status = 400
    retryable = False


class UnknownField(InvalidRequest):
    code = "unknown_field"


class UnsupportedContent(InvalidRequest):
    """A message has a part that is no text."""

    code = "unsupported_content"


class NotAllowed(ChatAppError):
    """The settings keep this from clients."""

    code = "not_allowed"
    status = 403
    retryable = False


class NotFound(ChatAppError):
    """Does not exist, or belongs to somebody else: the two are not told apart."""

    code = "not_found"
    status = 404
    retryable = False


class NotSignedIn(ChatAppError):
    """The application's log-in names nobody."""

    code = "not_signed_in"
    status = 401
    retryable = False


class MethodNotAllowed(ChatAppError):
    code = "method_not_allowed"
    status = 405
    retryable = False


class BodyTimeout(ChatAppError):
    code = "body_timeout"
    status = 408


class Conflict(ChatAppError):
    code = "conflict"
    status = 409


class BodyTooLarge(ChatAppError):
    code = "body_too_large"
    status = 413
    retryable = False


class UnknownEncoding(ChatAppError):
    code = "unknown_encoding"
    status = 415
    retryable = False


class NotJSON(ChatAppError):
    code = "not_json"
    status = 415
    retryable = False


class Refused(ChatAppError):
    """Raised by a `before` hook: the question is not asked.

    :param status: an HTTP status from 400 to 499.
    """

    code = "refused"
    status = 403
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        status: int = 403,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        if not 400 <= status <= 499:
            raise ValueError(f"Refused(status={status}): a refusal's status is from 400 to 499.")
        super().__init__(message, param=param, retry_after=retry_after)
        self.status = status


class StopAnswer(ChatAppError):
    """Raised by a `piece` hook: the answer ends before this piece."""

    code = "moderated"
    status = 403
    retryable = False


# What we can't do at the moment.


class TooManyAnswers(ChatAppError):
    """As many answers run as the settings allow."""

    code = "too_many_answers"
    status = 503


class ShuttingDown(ChatAppError):
    code = "shutting_down"
    status = 503


class Interrupted(ChatAppError):
    """The worker that wrote the answer went away before its end."""

    code = "interrupted"
    status = 503


class StorageUnavailable(ChatAppError):
    """The database or the event log does not answer."""

    code = "storage_unavailable"
    status = 503


class StorageFull(ChatAppError):
    code = "storage_full"
    status = 507
    retryable = False


class Misconfigured(StorageUnavailable, ConfigError):
    """The database, the event log or the folder can't work as they are set up: `seen` says why."""

    code = "misconfigured"
    status = 503
    retryable = False

    def __str__(self) -> str:
        return self.seen or self.message


# What the upstream did.


class UpstreamUnconfigured(ChatAppError):
    code = "upstream_unconfigured"
    status = 503
    retryable = False


class LocalModelError(ChatAppError):
    """The embedded model can't be started or does not get ready."""

    code = "local_model_failed"
    status = 503


class UpstreamUnreachable(ChatAppError):
    code = "upstream_unreachable"
    status = 502


class UpstreamTimeout(ChatAppError):
    code = "upstream_timeout"
    status = 504


class UpstreamAuth(ChatAppError):
    """The upstream refuses our key: 502, for the key is the server's and not the visitor's."""

    code = "upstream_auth"
    status = 502
    retryable = False


class UpstreamForbidden(ChatAppError):
    """The upstream does not serve this server, whatever its key: its country, its address."""

    code = "upstream_forbidden"
    status = 502
    retryable = False


class UpstreamQuota(ChatAppError):
    """Our account at the upstream is used up: 502, for it is the server's and not the visitor's."""

    code = "upstream_quota"
    status = 502
    retryable = False


class UpstreamAddress(ChatAppError):
    """At the upstream's address is no such API."""

    code = "upstream_address"
    status = 502
    retryable = False


class UpstreamModelNotFound(ChatAppError):
    code = "upstream_model_not_found"
    status = 404
    retryable = False


class UpstreamBusy(ChatAppError):
    code = "upstream_busy"
    status = 429


class UpstreamOverloaded(ChatAppError):
    code = "upstream_overloaded"
    status = 503


class UpstreamTooLong(ChatAppError):
    """The request is longer than the model's context, or than the upstream takes at once."""

    code = "upstream_too_long"
    status = 400
    retryable = False


class UpstreamModerated(ChatAppError):
    """The upstream's provider does not allow the question."""

    code = "upstream_moderated"
    status = 400
    retryable = False


class UpstreamRejected(ChatAppError):
    """The upstream calls the request itself invalid; `param` names the option at fault."""

    code = "upstream_rejected"
    status = 400
    retryable = False


class UpstreamError(ChatAppError):
    code = "upstream_error"
    status = 502


class UpstreamCut(ChatAppError):
    """The upstream's stream ended before the answer did."""

    code = "upstream_cut"
    status = 502


class UpstreamInvalid(ChatAppError):
    """The upstream sent something that is not a chat completion stream."""

    code = "upstream_invalid"
    status = 502


class UpstreamEmpty(ChatAppError):
    """The upstream ended an answer in order, and nothing was in it."""

    code = "upstream_empty"
    status = 502


class ToolRoundsUsed(ChatAppError):
    """The model called tools although it was asked to answer without."""

    code = "tool_rounds"
    status = 502


def _leaves(root: type[ChatAppError]) -> list[type[ChatAppError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _leaves(child))]


CODES: dict[str, type[ChatAppError]] = {error.code: error for error in _leaves(ChatAppError)}
"""Every code, with the error that carries it."""
CODES["internal"] = InternalError


def restored(fields: dict[str, Any]) -> ChatAppError:
    """The error that `ChatAppError.fields` or `details` made these of, e.g. in another worker."""
    kind = CODES.get(fields["code"], InternalError)
    error = kind(fields["message"], param=fields.get("param"))
    error.retry_after = fields.get("retry_after")
    error.status = fields.get("status", error.status)
    return error
