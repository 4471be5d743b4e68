"""What becomes of a fault that an upstream reports: a table from causes to errors; no I/O.

The first row that fits is taken. Rows are ordered from what is certain to what is likely; the last
ones go by the status alone.
"""

import re
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from ..errors import (
    ChatAppError,
    UpstreamAddress,
    UpstreamAuth,
    UpstreamBusy,
    UpstreamError,
    UpstreamForbidden,
    UpstreamModelNotFound,
    UpstreamModerated,
    UpstreamOverloaded,
    UpstreamQuota,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamTooLong,
    UpstreamUnreachable,
)
from .reports import MAX_WORDS_CHARS, Report

Statuses = Collection[int]


class Cause(NamedTuple):
    """A row: what tells a cause, and what the visitor is told of it."""

    error: type[ChatAppError]
    sentence: str
    """`{model}` and `{when}` are filled in."""
    statuses: Statuses = ()
    """Any of them; empty: whatever the status."""
    words: str = ""
    """A pattern in lower case; empty: whatever is said."""
    param: str | None = None

    def fits(self, report: Report) -> bool:
        if self.statuses and report.status not in self.statuses:
            return False
        return not self.words or re.search(self.words, report.words) is not None


TELL: Final = "Tell whoever runs this site."
BUSY: Final = "The model is busy; try again {when}."
FULL: Final = "The model's server is overloaded or starting. Try again {when}."
USED_UP: Final = (
    f"The model can't be asked: this site's account with its provider is used up. {TELL}"
)
WRONG_KEY: Final = f"The model's server does not accept this server's key. {TELL}"
TOO_MUCH: Final = (
    "This is more than the model takes at once. Send less, or begin a new conversation."
)
NO_MODEL: Final = "The model's server has no model {model!r}. Choose another one."
WRONG_ADDRESS: Final = f"The address of the model's server is wrong. {TELL}"
LATE: Final = "The model's server did not answer in time. Try again."
DOWN: Final = "The model's server can't be reached. Try again in a moment."

CERTAIN: Final = (
    Cause(
        UpstreamModerated,
        "The model's provider does not allow this question. Put it in other words.",
        (0, 400, 403, 422, 451),
        r"content.?filter|content management policy|responsibleaipolicy|content.?policy|flagged"
        r"|data_inspection_failed|inappropriate content|prohibited_content|moderation|敏感",
    ),
    Cause(
        UpstreamForbidden,
        f"The model's provider does not serve the place where this server is. {TELL}",
        (0, 400, 403, 451),
        r"unsupported_country|country, region|location is not supported|not available in your"
        r"|region.{0,20}not supported",
    ),
    Cause(
        UpstreamTooLong,
        TOO_MUCH,
        (),
        r"request too large",
    ),
    Cause(
        UpstreamBusy,
        BUSY,
        (0, 429),
        r"try again in|retry (in|after)|retrydelay|per.?(second|min|hour|day)|rate.?limit"
        r"|too many requests|concurren|overload",
    ),
    Cause(
        UpstreamQuota,
        USED_UP,
        (0, 400, 402, 403, 429),
        r"insufficient.?(quota|balance|credit|fund)|current quota|billing|credit balance"
        r"|out of credit|arrearage|budget.{0,20}exceeded|exceeded.{0,20}budget|余额|欠费",
    ),
    Cause(
        UpstreamAuth,
        WRONG_KEY,
        (0, 400, 401, 403, 500),
        r"api.?key.{0,40}(not valid|invalid|incorrect|expired|missing|not found)"
        r"|(invalid|incorrect|expired|missing|no)( \w+)? (api.?key|authentication|bearer)"
        r"|(no|invalid) credentials|unauthori[sz]ed|authentication.?(error|failed|fails)",
    ),
    Cause(
        UpstreamRejected,
        "The model does not take this conversation as it is. Begin a new one.",
        (0, 400, 422, 500),
        r"roles? must alternate|raise_exception|chat.?template|must be followed by tool messages"
        r"|after the optional system message|system message must be at the beginning",
    ),
    Cause(
        UpstreamRejected,
        "This model can't call functions, which this site needs. Choose another model.",
        (0, 400, 404, 422, 500, 501),
        r"not support (tool|function)|support tool use|enable-auto-tool-choice"
        r"|(tool|function).?(use|call|calling|choice)s?.{0,40}not supported",
        "model",
    ),
)
"""Causes that are told apart by what is said, and that have nothing to do with an option."""

LIKELY: Final = (
    Cause(
        UpstreamTooLong,
        "This conversation is longer than the model can read. Begin a new one, or send less.",
        (0, 400, 413, 422, 500),
        r"context.?(length|window|size)|maximum context|exceed.{0,30}context|too many tokens"
        r"|(prompt|input|message|request)s?.{0,20}too long|reduce the length|input token count"
        r"|range of input length|maximum.{0,30}tokens|token.{0,20}limit",
    ),
    Cause(
        UpstreamAddress,
        WRONG_ADDRESS,
        (),
        r"invalid url|unknown request url|unexpected endpoint|cannot post|page not found|no route"
        r"|method not allowed|^(404 )?resource not found|route not found|endpoint not found",
    ),
    Cause(
        UpstreamModelNotFound,
        NO_MODEL,
        (0, 400, 403, 404, 410, 422, 500),
        r"model.{0,80}(not.{0,3}found|(does|do) ?n[o']t exist|not exist|is unknown|not a valid"
        r"|no longer|decommissioned|is not (available|supported))|model_not_found"
        r"|(unknown|invalid|no such|unsupported|unrecogni[sz]ed) model|deploymentnotfound"
        r"|access to model|no endpoints found|try pulling it",
        "model",
    ),
    Cause(
        UpstreamOverloaded,
        FULL,
        (0, 498, 500, 502, 503, 529),
        r"overload|over ?capacity|capacity exceeded|loading model|model is (currently )?loading",
    ),
    Cause(
        UpstreamForbidden,
        f"Something before the model's server keeps this server out. {TELL}",
        (403, 429, 503),
        r"cloudflare|attention required|access denied|error code: 1\d\d\d|captcha",
    ),
)
"""Causes that are told apart by what is said, unless that is about an option."""

BY_STATUS: Final = (
    Cause(UpstreamQuota, USED_UP, (402,)),
    Cause(UpstreamAuth, WRONG_KEY, (401, 403)),
    Cause(UpstreamModelNotFound, NO_MODEL, (404, 410), param="model"),
    Cause(UpstreamAddress, WRONG_ADDRESS, (*range(300, 400), 405)),
    Cause(UpstreamUnreachable, f"The way to the model's server wants a password. {TELL}", (407,)),
    Cause(UpstreamTimeout, LATE, (408, 504, 522, 524)),
    Cause(UpstreamTooLong, TOO_MUCH, (413,)),
    Cause(UpstreamBusy, BUSY, (429,)),
    Cause(
        UpstreamOverloaded,
        FULL,
        (498, 503, 529),
    ),
    Cause(UpstreamUnreachable, DOWN, (520, 521, 523, 525, 526, 530)),
    Cause(
        UpstreamRejected,
        "The model's server does not take this request. Tell whoever runs this site; "
        "its log has the reason.",
        range(400, 500),
    ),
    Cause(UpstreamError, "The model's server has a fault. Try again in a moment.", range(500, 600)),
)
"""What is left, by the status alone."""

UNKNOWN: Final = Cause(
    UpstreamError, "The model's server reported an error while it was answering. Ask again."
)
OPTION: Final = {
    "field": "The model does not take the option {name}. Leave it out.",
    "value": "The model does not take {name} as it is set. Choose another value.",
}

BROKEN_OFF_WAIT: Final = 60.0
"""Seconds to leave a server alone that was too busy to end an answer."""
NO_SUCH_PATH: Final = Cause(UpstreamAddress, WRONG_ADDRESS, (404,))


def refused_options(report: Report, asked: Collection[str]) -> tuple[str, ...]:
    """The options that a server does not take at all, though it would take the question."""
    if report.blames != "field" or _first(CERTAIN, report):
        return ()
    return report.options(asked)


def error_for(
    report: Report, model: str = "", asked: Collection[str] = (), wait: float | None = None
) -> ChatAppError:
    """What an upstream's report is for us.

    :param model: that was asked.
    :param asked: the options of the request, of which one may be at fault.
    :param wait: seconds after which the upstream wants to be asked again, by its headers.
    """
    certain = _first(CERTAIN, report)
    if not certain and report.blames and (named := report.options(asked)):
        return UpstreamRejected(OPTION[report.blames].format(name=named[0]), param=named[0])
    by_status = BY_STATUS if report.is_of_an_api else (NO_SUCH_PATH, *BY_STATUS)
    cause = certain or _first(LIKELY, report) or _first(by_status, report) or UNKNOWN
    wait = report.wait if wait is None else wait
    when = "in a moment" if wait is None else f"in {max(round(wait), 1)} s"
    waits = cause.error in (UpstreamBusy, UpstreamOverloaded)
    return cause.error(
        cause.sentence.format(model=model, when=when),
        param=cause.param,
        retry_after=wait if waits else None,
    )


def reported(error: Any) -> ChatAppError:
    """The fault that an `error` object in a stream tells of."""
    report = Report.of_object(error)
    fault = error_for(report, wait=BROKEN_OFF_WAIT if report.wait is None else report.wait)
    fault.seen = f"reported in the stream: {str(error)[:MAX_WORDS_CHARS]!r}"
    return fault


def _first(causes: tuple[Cause, ...], report: Report) -> Cause | None:
    return next((cause for cause in causes if cause.fits(report)), None)
