"""Whether what this worker stands on is set up right, for the operator who looks at `/readyz`."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Final

from ..errors import Misconfigured, StorageUnavailable
from ..runtime.background import BackgroundTask
from ..runtime.setup_fault import SetupFault

PAUSE_SECONDS: Final = 1.0
"""Between looks: who removes the database's file, or puts it back, is noticed without a request."""


class SetupCheck:
    """Looks at each part again and again, beside the requests.

    :param parts: of each the fault that it notes, and a short use of it.
    """

    def __init__(self, parts: Sequence[tuple[SetupFault, Callable[[], object]]]) -> None:
        self._parts = parts
        self._background = BackgroundTask("setup", self._look)

    def begin(self) -> None:
        """Look from now on."""
        self._background.begin()

    def check(self) -> None:
        """:raises Misconfigured: what the latest looks and requests have found."""
        for fault, _ in self._parts:
            if fault.error is not None:
                raise Misconfigured(fault.error.message, seen=str(fault.error))

    def _look(self) -> float:
        for _, use in self._parts:
            with contextlib.suppress(StorageUnavailable):  # Whoever needs it says so.
                use()
        return PAUSE_SECONDS
