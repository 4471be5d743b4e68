"""Why an answer ended, in the words of many servers; no I/O."""

import logging
from typing import Final

logger = logging.getLogger(__name__)

LENGTH: Final = frozenset(
    {
        "length",
        "max_length",
        "max_output_tokens",
        "max_tokens",
        "model_context_window_exceeded",
        "model_length",
    }
)
CONTENT_FILTER: Final = frozenset(
    {
        "blocklist",
        "content_filter",
        "prohibited_content",
        "recitation",
        "refusal",
        "safety",
        "sensitive",
        "spii",
    }
)
STOP: Final = frozenset(
    {
        "end_turn",
        "eos",
        "eos_token",
        "function_call",
        "stop",
        "stop_sequence",
        "tool_calls",
        "tool_use",
    }
)
NONE: Final = frozenset({"", "finish_reason_unspecified", "none", "null"})
"""What some servers send with each chunk before the last."""
FAULTS: Final = frozenset(
    {
        "abort",
        "aborted",
        "canceled",
        "cancelled",
        "error",
        "insufficient_system_resource",
        "malformed_function_call",
        "network_error",
        "server_error",
        "timeout",
    }
)
"""The answer broke off."""
MAX_UNKNOWN: Final = 100
"""Reasons that are remembered as logged."""

_logged: set[str] = set()


def finish_reason(told: str) -> str | None:
    """`stop`, `length`, `content_filter` or, where the answer broke off, `fault`; None: not yet."""
    reason = told.strip().lower().removeprefix("finishreason.")
    if reason in STOP:
        return "stop"
    if reason in NONE:
        return None
    if reason in LENGTH:
        return "length"
    if reason in CONTENT_FILTER:
        return "content_filter"
    if reason in FAULTS:
        return "fault"
    if reason not in _logged and len(_logged) < MAX_UNKNOWN:
        _logged.add(reason)
        logger.warning("unknown finish reason %.80r is taken for stop", told)
    return "stop"
