"""Files and folders of ours: nobody else may read them, and nobody else's are used."""

import os
from pathlib import Path

from ..errors import ConfigError


def make_folder(folder: Path) -> None:
    """Make a folder for this user alone; one that is there keeps its rights.

    :raises OSError:
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)


def open_own(path: Path, flags: int) -> int:
    """Open a file, made for this user alone where there is none; its descriptor.

    :param flags: as for `os.open`.
    :raises ConfigError: as `keep_private`.
    :raises OSError:
    """
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        keep_private(path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def keep_private(path: Path) -> None:
    """Take away the rights that others have to a file; nothing where there is none.

    The file is not opened: to close it again would end the locks that SQLite has on it.

    :raises ConfigError: it belongs to another user, who could read and change it.
    :raises OSError:
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    if found.st_uid != os.geteuid():
        raise ConfigError(
            f"{path} belongs to another user (number {found.st_uid}; this server's is "
            f"{os.geteuid()}). Give it to the server's user by chown, or remove it."
        )
    if found.st_mode & 0o077:
        path.chmod(0o600)
