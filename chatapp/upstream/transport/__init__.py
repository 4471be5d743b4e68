"""HTTP transports below the OpenAI SDK whose requests can be cancelled from outside in every phase.

`FastTransport` is the default; `StockTransport` does the same with httpx2's own HTTP layer, for
comparison. Both provide `response.extensions["raw_body"]`, a `RawBody`.
"""

from .body import RawBody, Readable
from .cancellation import Cancellation, Cancelled, current_cancellation
from .fast import FastTransport
from .guarded import GuardedTransport, RedirectedAway, UnwantedResponse
from .proxies import Proxies
from .stock import StockTransport

__all__ = [
    "Cancellation",
    "Cancelled",
    "FastTransport",
    "GuardedTransport",
    "Proxies",
    "RawBody",
    "Readable",
    "RedirectedAway",
    "StockTransport",
    "UnwantedResponse",
    "current_cancellation",
]
