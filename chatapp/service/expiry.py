"""Deletes what visitors have left: conversations without a question, and those long unused."""

from datetime import UTC, datetime, timedelta
from typing import Final

from ..conversations.room import delete_unused
from ..database.database import Database
from ..identity import owners
from ..rates import Charge, Rate, SqlCounts
from ..runtime.background import BackgroundTask
from ..settings import Settings

PAUSE_SECONDS: Final = 60
"""Between two rounds, of which one worker does each."""
BATCH: Final = 50
"""Conversations in one transaction: others write between two."""


class Expiry:
    """One thread per worker.

    :param chat: the chat's name; the other chats of a database look after themselves.
    """

    def __init__(self, settings: Settings, database: Database, chat: str) -> None:
        self._settings = settings
        self._database = database
        self._turns = SqlCounts(database)
        self._visitors = owners.visitor(chat, "")
        self._turn = Charge(f"{chat}:expiry", Rate(1, PAUSE_SECONDS))
        self._background = BackgroundTask("expiry", self._work)

    def begin(self) -> None:
        """Start, unless it has started."""
        self._background.begin()

    def _work(self) -> float:
        if self._turns.take([self._turn]) is None:
            self.expire()
            self._turns.tidy()
        return PAUSE_SECONDS

    def expire(self) -> None:
        """Delete all that is too old.

        :raises StorageUnavailable:
        """
        now = datetime.now(UTC)
        for age, only_empty in (
            (self._settings.empty_age, True),
            (self._settings.visitor_age, False),
        ):
            before = now - timedelta(seconds=age)
            while age and delete_unused(
                self._database, self._visitors, before, BATCH, only_empty=only_empty
            ):
                pass
