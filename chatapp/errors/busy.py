"""What an owner, or all together, do too much of at one time."""

from .base import ChatAppError


class TooManyStreams(ChatAppError):
    """As many event streams of one owner or address are open as the settings allow."""

    code = "too_many_streams"
    status = 429


class SearchBusy(ChatAppError):
    """Others' searches, or this one, take too long."""

    code = "search_busy"
    status = 503


class RateLimited(ChatAppError):
    code = "rate_limited"
    status = 429


class TooManyRunning(ChatAppError):
    """As many answers of one owner run as the settings allow."""

    code = "too_many_running"
    status = 429


class QuotaUsed(ChatAppError):
    """An owner has used the tokens of the day."""

    code = "quota_used"
    status = 429
