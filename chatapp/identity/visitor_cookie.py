"""Tells visitors apart by a signed cookie, set at the first visit.

The cookie contains a random id and nothing else.
"""

import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from itsdangerous import BadSignature, Signer

from ..errors import ConfigError
from ..runtime.own_files import make_folder, open_own
from ..settings_fields import LEAST_SECRET_BYTES

COOKIE: Final = "chatapp_visitor"
COOKIE_MAX_AGE: Final = 365 * 24 * 3600
"""Seconds."""
SECRET_FILE: Final = "chatapp-secret"  # noqa: S105 - the name of a file


def cookie_name(chat: str, path: str, *, secure: bool) -> str:
    """The name of a chat's cookie.

    Over https it has a prefix, by which a browser takes it from nobody but this host: no other
    name of the domain, and no http.

    :param path: of the page; `__Host-` is only for `/`.
    """
    name = COOKIE if chat == "chatapp" else f"{COOKIE}_{chat}"
    if not secure:
        return name
    return f"__Host-{name}" if path == "/" else f"__Secure-{name}"


def count_of(name: str, header: str) -> int:
    """How many cookies of this name a `Cookie` header has; a server joins several by commas."""
    return sum(each.partition("=")[0].strip() == name for each in re.split("[;,]", header))


class Visitors:
    """Makes and reads the cookie's value.

    :param keys: secrets; the last one signs, and all are accepted.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._signer = Signer(list(keys), salt="chatapp.visitor", key_derivation="hmac")

    def new(self) -> tuple[str, str]:
        """The id of a new visitor, and the cookie for it."""
        visitor = secrets.token_urlsafe(16)
        return visitor, self._signer.sign(visitor).decode()

    def read(self, cookie: str) -> str | None:
        """The visitor that a cookie names; None when we did not sign it."""
        try:
            return self._signer.unsign(cookie).decode()
        except (BadSignature, UnicodeError):
            return None


def kept_secret(folder: Path) -> str:
    """The secret of this installation, generated on first use and shared by all workers.

    :raises ConfigError: it can be neither read nor written.
    """
    path = folder / SECRET_FILE
    try:
        if not path.exists():
            _make(path)
        with open(open_own(path, os.O_RDONLY), "rb") as file:
            secret = file.read().strip()
    except OSError as error:
        raise ConfigError(
            f"The visitor cookie's secret can't be stored in {folder} ({error.strerror}). "
            "Set CHATAPP_SECRET, or make the folder writable."
        ) from None
    if len(secret) < LEAST_SECRET_BYTES:
        raise ConfigError(f"{path} contains no secret. Delete it, and a new one is created.")
    return secret.decode("latin-1")


def _make(path: Path) -> None:
    make_folder(path.parent)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(32))
    try:
        # Unlike a rename, a link fails if another worker was faster; its secret is used then.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
