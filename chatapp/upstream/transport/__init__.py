"""HTTP transports below the OpenAI SDK whose requests can be ended from outside in every phase.

`FastTransport` is the one to use; `StockTransport` is httpx2's own way of doing the same, for
comparison. Both give `response.extensions["raw_body"]`, a `RawBody`.
"""

from .body import RawBody, Readable
from .cancellation import Cancellation, Cancelled, current_cancellation
from .fast import FastTransport
from .proxies import Proxies
from .stock import StockTransport

__all__ = [
    "Cancellation",
    "Cancelled",
    "FastTransport",
    "Proxies",
    "RawBody",
    "Readable",
    "StockTransport",
    "current_cancellation",
]
