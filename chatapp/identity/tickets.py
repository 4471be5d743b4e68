"""Signed, short-lived tickets: each lets one owner's page follow one answer.

An `EventSource` can't set headers, and from another origin often sends no cookie; all it has is a
URL. So a ticket is part of the URL. It contains the answer's id and the owner, both readable, and
the time of issue.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from itsdangerous import BadData, URLSafeTimedSerializer

MAX_TICKET_CHARS: Final = 2048
"""Characters. gunicorn accepts a request line of 4094 bytes."""
_SHAPE: Final = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)


class Tickets:
    """Issues and reads tickets.

    :param keys: secrets; the last one signs, and all are accepted.
    :param age: seconds that a ticket is valid.
    :param chat: the chat's name; tickets of another chat with the same secret are invalid.
    """

    def __init__(self, keys: Sequence[str], age: int, chat: str = "") -> None:
        self._age = age
        self._serializer = URLSafeTimedSerializer(
            list(keys),
            salt=f"chatapp.ticket.{chat}",
            # 48 bytes are exactly 64 characters of base64. With another length there would be
            # unused bits, and a changed character could decode to the same signature.
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha384},
        )

    def issue(self, answer_id: str, owner: str) -> str:
        """A ticket for a URL, made of `[A-Za-z0-9_.-]`.

        :raises ValueError: the owner's name is too long.
        """
        ticket = str(self._serializer.dumps([answer_id, owner]))
        if len(ticket) > MAX_TICKET_CHARS:
            raise ValueError(
                f"An owner's name of {len(owner)} characters is too long for a ticket."
            )
        return ticket

    def read(self, ticket: str, answer_id: str) -> str | None:
        """The owner that a ticket names.

        None if it is not ours, for another answer, or expired.
        """
        if len(ticket) > MAX_TICKET_CHARS or not _SHAPE.fullmatch(ticket):
            return None
        try:
            issued_for, owner = self._serializer.loads(ticket, max_age=self._age)
        except BadData:
            return None
        return str(owner) if issued_for == answer_id else None
