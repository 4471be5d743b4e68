"""What a browser is refused for what it says by itself: by which name, for which site, as whom."""

from .base import ChatAppError


class CrossSite(ChatAppError):
    """A page of another site asks."""

    code = "cross_site"
    status = 403
    retryable = False


class WrongHost(ChatAppError):
    """The request names this server as its operator has not."""

    code = "wrong_host"
    status = 403
    retryable = False


class DuplicateCookie(ChatAppError):
    """Two visitor cookies in one request."""

    code = "duplicate_cookie"
    status = 400
    retryable = False
