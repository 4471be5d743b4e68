"""Signed, short-lived tickets: each lets one owner's page follow one answer.

An `EventSource` sends no header, and from another origin often no cookie either; its address is all
that it has. A ticket goes into the address. It holds the answer's id and the owner, both readable,
and the time at which it was issued.
"""

import hashlib
import re
from typing import Final

from itsdangerous import BadData, URLSafeTimedSerializer

MAX_TICKET_CHARS: Final = 2048
"""Characters. gunicorn takes a request line of 4094 bytes."""
_SHAPE: Final = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)


class Tickets:
    """Issues and reads tickets.

    :param secret: signs them.
    :param age: seconds that a ticket is good.
    :param chat: the chat's name; the tickets of another one, with the same secret, are not ours.
    """

    def __init__(self, secret: str, age: int, chat: str = "") -> None:
        self._age = age
        self._serializer = URLSafeTimedSerializer(
            secret,
            salt=f"chatapp.ticket.{chat}",
            # 48 bytes are 64 characters of base64 with no bit to spare: with another length, some
            # characters could be changed and the signature would still be read as the same.
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha384},
        )

    def issue(self, answer_id: str, owner: str) -> str:
        """A ticket for a URL, made of `[A-Za-z0-9_.-]`.

        :raises ValueError: the owner's name is too long for one.
        """
        ticket = str(self._serializer.dumps([answer_id, owner]))
        if len(ticket) > MAX_TICKET_CHARS:
            raise ValueError(
                f"An owner's name of {len(owner)} characters is too long for a ticket."
            )
        return ticket

    def read(self, ticket: str, answer_id: str) -> str | None:
        """The owner that a ticket names.

        None when it is not ours, is for another answer, or its time is over.
        """
        if len(ticket) > MAX_TICKET_CHARS or not _SHAPE.fullmatch(ticket):
            return None
        try:
            issued_for, owner = self._serializer.loads(ticket, max_age=self._age)
        except BadData:
            return None
        return str(owner) if issued_for == answer_id else None
