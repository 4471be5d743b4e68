"""What Redis does in one step: Lua scripts. Each is atomic, so no worker sees half of one.

`answer:<id>` is a hash, the record, without the fields that are None. `log:<id>` is a stream, a
segment an entry; an entry's id is one of its events, which makes it findable by an event. `running`
tells each running answer's writer, `reads` how often its readers elsewhere were noted; `ended`
sorts the others by their ends, and `sizes` and `bytes` count what these have. Keys that belong to
one answer expire, should nobody ever tidy.
"""

from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent
_COMMON: Final = (_FOLDER / "common.lua").read_text("utf-8")


def _script(name: str) -> str:
    """The script in `<name>.lua`, behind what all have in common."""
    return _COMMON + (_FOLDER / f"{name}.lua").read_text("utf-8")


CLAIM: Final = _script("claim")
WRITE: Final = _script("write")
READ: Final = _script("read")
REQUEST_STOP: Final = _script("request_stop")
NOTE_READERS: Final = _script("note_readers")
RELEASE: Final = _script("release")
REFUSE: Final = _script("refuse")
TAKE: Final = _script("take")
DISCARD: Final = _script("discard")
ORPHANS: Final = _script("orphans")
TIDY: Final = _script("tidy")
