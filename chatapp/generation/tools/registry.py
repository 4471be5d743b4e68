"""Python functions that the model may call.

If a call fails, the model gets a sentence, and often finds another way; the details are logged.
"""

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ...errors import ConfigError
from ...runtime.stall_watch import StallWatch
from .executor import Call, ToolContext, ToolResult, ToolRun, failed
from .schema import Signature

logger = logging.getLogger(__name__)

MAX_HANGING_THREADS: Final = 16
"""Hanging threads that a tool may have before further calls are refused."""


class ToolError(Exception):
    """Raised by a tool: the message goes to the model, and the reader may see it."""


@dataclass(slots=True)
class Tool:
    """A registered function with its limits."""

    function: Callable[..., Any]
    signature: Signature
    timeout: float
    """Seconds."""
    max_bytes: int


class Tools:
    """The functions of one chat that the model may call.

    :param timeout: seconds that a call may take, where a tool has no limit of its own.
    :param max_bytes: of a result, likewise.
    :param watch: calls the functions.
    :param surround: makes what is entered around each call, e.g. the application's context.
    """

    def __init__(
        self,
        timeout: float,
        max_bytes: int,
        watch: StallWatch,
        surround: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._watch = watch
        self._surround = surround
        self._tools: dict[str, Tool] = {}
        self._hanging: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._tools)

    def register(
        self,
        function: Callable[..., Any],
        name: str | None = None,
        timeout: float | None = None,
        max_bytes: int | None = None,
    ) -> None:
        """Let the model call `function`.

        It runs in a thread of its own, outside any request. It returns a string or anything that
        JSON can express, and raises `ToolError` to tell the model something.

        :param timeout: seconds.
        :param max_bytes: of the result, as UTF-8.
        :raises Undescribable: it can't be described to the model.
        :raises ConfigError: a limit is invalid, or the name is taken.
        """
        signature = Signature(function, name, ToolContext)
        timeout = self._timeout if timeout is None else timeout
        max_bytes = self._max_bytes if max_bytes is None else max_bytes
        if not (0 < timeout <= threading.TIMEOUT_MAX and max_bytes > 0):
            raise ConfigError(f"tool {signature.name!r}: timeout and max_bytes must be above 0.")
        if signature.name in self._tools:
            raise ConfigError(
                f"There is already a tool {signature.name!r}. Register this one with name=…"
            )
        self._tools[signature.name] = Tool(function, signature, timeout, max_bytes)

    def specs(self) -> list[dict[str, Any]]:
        """All tools, for the `tools` of a request to OpenAI."""
        return [tool.signature.spec for tool in self._tools.values()]

    def run(
        self,
        calls: Sequence[Call],
        context: ToolContext,
        on_result: Callable[[ToolResult], None] | None = None,
    ) -> list[ToolResult]:
        """Run calls concurrently.

        :param on_result: gets each result as it comes, in the caller's thread.
        :returns: a result for each call, in their order.
        """
        return self.prepare(calls, context).run(on_result or (lambda _result: None))

    def prepare(self, calls: Sequence[Call], context: ToolContext) -> ToolRun:
        """Like `run`, in two steps, for callers that may cancel."""
        return ToolRun(self, calls, context)

    def refusal(self, name: str) -> str | None:
        """Why a call of this tool can't run."""
        if name not in self._tools:
            names = ", ".join(self._tools) or "none"
            return f"There is no tool of this name. Available tools: {names}."
        if self._hanging[name] >= MAX_HANGING_THREADS:
            return "This tool is not responding at the moment. Continue without it."
        return None

    def timeout(self, name: str) -> float:
        """Seconds that a call of this tool may take."""
        return self._tools[name].timeout

    def call(self, call: Call, context: ToolContext) -> ToolResult:
        """Run one call, here and now."""
        tool = self._tools[call.name]
        try:
            arguments = tool.signature.check(arguments_of(call))
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            return failed(call, f"Invalid arguments: {error}.")
        if tool.signature.context_name:
            arguments[tool.signature.context_name] = context
        try:
            with self._surround():
                result = self._watch.call(tool.function, **arguments)
        except ToolError as error:
            return failed(call, str(error))
        return self._checked(call, tool, result)

    def hangs(self, name: str, by: int) -> None:
        """Count the threads that have outlived their call: one more or one less."""
        with self._lock:
            self._hanging[name] += by

    def _checked(self, call: Call, tool: Tool, result: Any) -> ToolResult:
        try:
            encoded = result.encode() if isinstance(result, str) else msgspec.json.encode(result)
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            logger.error("tool %s: its result can't be sent as JSON: %s", call.name, error)
            return failed(call, "The tool failed: its result can't be read.")
        if len(encoded) > tool.max_bytes:
            return failed(
                call,
                f"The result is too large: {len(encoded)} bytes, and {tool.max_bytes} are "
                "allowed. Ask for less.",
            )
        if isinstance(result, str):
            return ToolResult(call, result, result)
        # Decoded again, so that the tool can't change what was measured.
        return ToolResult(call, msgspec.json.decode(encoded), encoded.decode())


def arguments_of(call: Call) -> dict[str, Any]:
    """A call's arguments as an object; an empty string, which some servers send, is an empty one.

    :raises msgspec.DecodeError: they are not a JSON object.
    """
    if not call.arguments.strip():
        return {}
    return msgspec.json.decode(call.arguments, type=dict[str, Any])
