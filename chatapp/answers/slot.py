"""A place among the answers that may run concurrently."""

from typing import NamedTuple

from ..errors import TooManyRunning


class Slot(NamedTuple):
    """A place among `most` answers, which are counted over all workers."""

    key: str
    """What they are counted by: an owner, or a client's address."""
    most: int

    def refusal(self) -> TooManyRunning:
        """Why there is no place."""
        answers = f"{self.most} answers are" if self.most > 1 else "An answer is"
        return TooManyRunning(
            f"{answers} being written for you already. Wait for one to end, or stop one.",
            retry_after=5,
        )
