"""What an owner is called: inside by chat and kind, outside as the application knows them.

Several chats in one application share storage, and nothing else; a visitor of one is nobody in the
other. And a name that the application gives out must not be taken for a visitor's.
"""

from typing import Final

VISITOR: Final = "visitor:"
USER: Final = "user:"
MAX_ID_CHARS: Final = 200
"""Characters of an owner's id."""


def inside(chat: str, owner: str) -> str:
    """The owner that the application calls so."""
    return f"{chat}/{owner}" if owner.startswith(VISITOR) else f"{chat}/{USER}{owner}"


def user(chat: str, user_id: str) -> str:
    """Whom the application's log-in names."""
    return f"{chat}/{USER}{user_id}"


def visitor(chat: str, visitor_id: str) -> str:
    """Whom only a cookie names."""
    return f"{chat}/{VISITOR}{visitor_id}"


def outside(owner: str) -> str:
    """What the application calls an owner: a log-in's id, or `visitor:…`."""
    return owner.partition("/")[2].removeprefix(USER)


def everyone(chat: str) -> str:
    """The addressee that stands for all owners of a chat."""
    return f"{chat}/"
