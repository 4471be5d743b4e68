"""Options that a server has refused, and would refuse again: left out from then on, for a time."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

KEPT: Final = frozenset(
    {
        "add_generation_prompt",
        "continue_final_message",
        "messages",
        "model",
        "response_format",
        "stream",
        "tool_choice",
        "tools",
    }
)
"""Without these it would be another question."""
RENAMED: Final = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""OpenAI's older and newer name of one option; a server that refuses one knows the other."""
REMEMBERED_SECONDS: Final = 3600.0
"""A server that was brought up to date meanwhile gets them again."""
MAX_MODELS: Final = 256


class RefusedOptions:
    """What each model was found to do without; threads may share it.

    :param clock: in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[str, dict[str, float]] = {}

    def of(self, model: str) -> set[str]:
        """The options to leave out for a model."""
        now = self._clock()
        with self._lock:
            known = self._until.get(model)
            return {name for name, until in known.items() if now < until} if known else set()

    def remember(self, model: str, names: Iterable[str]) -> None:
        """Leave these out from now on: the server has taken the question without them."""
        until = self._clock() + REMEMBERED_SECONDS
        with self._lock:
            # The model that was refused last comes last.
            known = self._until.pop(model, {})
            self._until[model] = known | dict.fromkeys(names, until)
            while len(self._until) > MAX_MODELS:
                del self._until[next(iter(self._until))]


def asked_for(request: dict[str, Any]) -> set[str]:
    """The options of a request that it could do without."""
    return request.keys() - KEPT


def without(request: dict[str, Any], refused: Iterable[str]) -> dict[str, Any]:
    """The request without some options, or with their other name, unless that is refused, too."""
    refused = set(refused)
    kept = {name: value for name, value in request.items() if name not in refused}
    for name in refused & request.keys() & RENAMED.keys():
        if RENAMED[name] not in refused:
            kept.setdefault(RENAMED[name], request[name])
    return kept
