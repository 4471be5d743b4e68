"""Names of owners: internally by chat and kind, externally as the application knows them.

Several chats of an application may share storage, but nothing else: a visitor of one does not exist
in another. And a user's id must never be mistaken for a visitor's.
"""

from typing import Final

VISITOR: Final = "visitor:"
USER: Final = "user:"
MAX_ID_CHARS: Final = 200
"""Maximum characters of an owner's id."""


def inside(chat: str, owner: str) -> str:
    """The internal name for an external one."""
    return f"{chat}/{owner}" if owner.startswith(VISITOR) else f"{chat}/{USER}{owner}"


def user(chat: str, user_id: str) -> str:
    """The owner for a user of the application."""
    return f"{chat}/{USER}{user_id}"


def visitor(chat: str, visitor_id: str) -> str:
    """The owner for a visitor with a cookie."""
    return f"{chat}/{VISITOR}{visitor_id}"


def is_user(owner: str) -> bool:
    """Whether an internal name is that of a user who has signed in to the application."""
    return owner.partition("/")[2].startswith(USER)


def outside(owner: str) -> str:
    """The external name of an owner: the user's id, or `visitor:…`."""
    return owner.partition("/")[2].removeprefix(USER)


def everyone(chat: str) -> str:
    """The addressee for all owners of a chat."""
    return f"{chat}/"
