"""What all errors have in common."""

from typing import Any, ClassVar, Final

SEEN_CHARS: Final = 500
"""Of what an upstream said of its fault, for the log."""


class ChatAppError(Exception):
    """The root of everything this package raises on purpose.

    :param message: a sentence that the visitor may read.
    :param param: the name of the request field at fault, if there is one.
    :param retry_after: seconds until trying again makes sense.
    """

    code: ClassVar[str] = "internal"
    status: int = 500
    retryable: ClassVar[bool] = True

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        seen: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.seen = seen
        """What there was to see of the fault, for our log alone."""

    def fields(self) -> dict[str, Any]:
        """The data of a `failed` event."""
        return {"code": self.code, "message": self.message, "retryable": self.retryable}

    def details(self) -> dict[str, Any]:
        """Everything, for another worker; `restored` makes the error of it."""
        more = {"status": self.status, "param": self.param, "retry_after": self.retry_after}
        return self.fields() | more

    def body(self) -> dict[str, Any]:
        """An HTTP reply's body."""
        return {"error": {"code": self.code, "message": self.message, "param": self.param}}


class InternalError(ChatAppError):
    """A fault of this software; the log has the traceback."""


class ConfigError(ChatAppError):
    """The settings can't work; raised at start-up, read by the operator."""

    code = "config"
    retryable = False
