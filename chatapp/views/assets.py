"""The page's own files as they are, compressed once for all who ask."""

import gzip
import hashlib
import importlib
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, NamedTuple

from flask import Blueprint, Response, abort, request
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import Accept
from werkzeug.security import safe_join

STATIC: Final = Path(__file__).parent.parent / "static"
TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""What is served. Browsers need no `types.d.ts`."""
MAX_FILES: Final = 256
"""So many compressed files are kept, about 4 kB each: each file once for each coding."""

Encoder = Callable[[bytes], bytes]


def _encoders() -> dict[str, Encoder]:
    """The content codings that this Python can make, the preferred ones first.

    The levels are those that take a millisecond at most: other visitors' streams wait meanwhile.
    """
    found: dict[str, Encoder] = {}
    try:
        brotli = importlib.import_module("brotli")
        found["br"] = partial(brotli.compress, mode=brotli.MODE_TEXT, quality=9, lgwin=16)
    except ImportError:
        pass  # An extra that need not be installed.
    try:
        zstd = importlib.import_module("compression.zstd")
        found["zstd"] = partial(zstd.compress, level=12)
    except ImportError:
        pass  # Python has it from 3.14 on, if it was built with it.
    # The time would make the same file another one in each worker.
    found["gzip"] = partial(gzip.compress, compresslevel=9, mtime=0)
    return found


ENCODERS: Final = _encoders()


class Encoded(NamedTuple):
    """The bytes of one representation, and the strong validator that tells it from all others."""

    body: bytes
    etag: str


def register(blueprint: Blueprint) -> None:
    """Serve the modules, style sheets and pictures.

    Not below `/static`: mounted at the root, the application's own folder would come first.
    """

    @blueprint.get("/assets/<path:filename>", endpoint="static")
    def asset(filename: str) -> ResponseReturnValue:
        joined = safe_join(str(STATIC), filename)
        if joined is None or Path(joined).suffix not in TYPES:
            abort(404)
        path = Path(joined)
        try:
            changed = path.stat().st_mtime_ns
        except (OSError, ValueError):  # There is no such file, or its name holds a NUL.
            abort(404)
        coding = coding_for(request.accept_encodings, ENCODERS)
        body, etag = encoded_file(path, changed, coding)
        response = Response(body, mimetype=TYPES[path.suffix])
        response.set_etag(etag)
        response.cache_control.no_cache = True
        _declare(response, coding)
        return response.make_conditional(request)


def compress(response: Response) -> None:
    """Compress the body for whoever has made the current request.

    Only for a body that holds no secret beside what the client has said: compressed, its length
    would tell how much the two have in common (BREACH).
    """
    coding = coding_for(request.accept_encodings, ENCODERS)
    if coding:
        response.set_data(ENCODERS[coding](response.get_data()))
    _declare(response, coding)


def coding_for(accepted: Accept, offered: Iterable[str]) -> str | None:
    """The coding that a client likes best, the first one offered where it likes several as much.

    :param accepted: [RFC 9110 §12.5.3] its `Accept-Encoding`; an empty one accepts none.
    :param offered: names of codings, the preferred ones first.
    :returns: None for the plain body.
    """
    best = max(offered, key=accepted.quality, default=None)
    if best is None or accepted.quality(best) <= 0:
        return None
    # The plain body is always accepted, but preferred only by those who say so by its own name.
    plain = max((quality for name, quality in accepted if name == "identity"), default=0)
    return best if accepted.quality(best) >= plain else None


@lru_cache(maxsize=MAX_FILES)
def encoded_file(path: Path, changed: int, coding: str | None) -> Encoded:
    """A file's bytes in a coding.

    :param changed: when, in ns: a file that has changed is read again.
    """
    del changed
    body = path.read_bytes()
    if coding:
        body = ENCODERS[coding](body)
    return Encoded(body, hashlib.blake2b(body, digest_size=8).hexdigest())


def _declare(response: Response, coding: str | None) -> None:
    response.vary.add("Accept-Encoding")
    if coding:
        response.content_encoding = coding
