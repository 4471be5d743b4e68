"""What is wrong with how a part is set up: told to the operator once, not with each request."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Final

from ..errors import ConfigError, Misconfigured

NOT_SET_UP: Final = "This server is misconfigured. Its log says why."

logger = logging.getLogger(__name__)


class SetupFault:
    """The fault of one part, such as the database, as its latest use has found it."""

    def __init__(self) -> None:
        self.error: Misconfigured | None = None
        """None: it works, was not used yet, or is merely away."""

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Around each use.

        :raises Misconfigured: for a `ConfigError`, which is logged where it is another than before.
        """
        try:
            yield
        except ConfigError as error:
            if str(error) != str(self.error):
                logger.error("%s", error)
            self.error = Misconfigured(NOT_SET_UP, seen=str(error))
            raise Misconfigured(NOT_SET_UP, seen=str(error)) from None
        if self.error is not None:
            self.error = None
            logger.warning("what was set up wrong is right now")
