"""The page's files as they are written, compressed once per version."""

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
"""The suffixes that are served. Browsers need no `types.d.ts`."""
MAX_FILES: Final = 256
"""Compressed files in memory, about 4 kB each: each file in each coding."""

Encoder = Callable[[bytes], bytes]


def _encoders() -> dict[str, Encoder]:
    """The content codings that this Python supports, preferred ones first.

    The levels take at most a millisecond, since other visitors' streams wait meanwhile.
    """
    found: dict[str, Encoder] = {}
    try:
        brotli = importlib.import_module("brotli")
        found["br"] = partial(brotli.compress, mode=brotli.MODE_TEXT, quality=9, lgwin=16)
    except ImportError:
        pass  # An optional extra.
    try:
        zstd = importlib.import_module("compression.zstd")
        found["zstd"] = partial(zstd.compress, level=12)
    except ImportError:
        pass  # In Python since 3.14, if it was built with it.
    # With a time stamp, workers would produce different bytes.
    found["gzip"] = partial(gzip.compress, compresslevel=9, mtime=0)
    return found


ENCODERS: Final = _encoders()


class Encoded(NamedTuple):
    """The bytes of one representation, and its strong validator."""

    body: bytes
    etag: str


def register(blueprint: Blueprint) -> None:
    """Serve the modules, style sheets and images.

    Not below `/static`: if mounted at the root, the application's own folder would take precedence.
    """

    @blueprint.get("/assets/<path:filename>", endpoint="static")
    def asset(filename: str) -> ResponseReturnValue:
        joined = safe_join(str(STATIC), filename)
        if joined is None or Path(joined).suffix not in TYPES:
            abort(404)
        path = Path(joined)
        try:
            changed = path.stat().st_mtime_ns
        except (OSError, ValueError):  # There is no such file, or its name contains a NUL.
            abort(404)
        coding = coding_for(request.accept_encodings, ENCODERS)
        body, etag = encoded_file(path, changed, coding)
        response = Response(body, mimetype=TYPES[path.suffix])
        response.set_etag(etag)
        response.cache_control.no_cache = True
        _declare(response, coding)
        return response.make_conditional(request)


def compress(response: Response) -> None:
    """Compress the body as the client of the current request accepts.

    Only for bodies that contain no secret next to something that the client sent: the compressed
    length would reveal how much they have in common (BREACH).
    """
    coding = coding_for(request.accept_encodings, ENCODERS)
    if coding:
        response.set_data(ENCODERS[coding](response.get_data()))
    _declare(response, coding)


def coding_for(accepted: Accept, offered: Iterable[str]) -> str | None:
    """The coding that a client prefers; of several equal ones, the first offered.

    :param accepted: [RFC 9110 §12.5.3] its `Accept-Encoding`; an empty one accepts none.
    :param offered: names of codings, the preferred ones first.
    :returns: None for the plain body.
    """
    best = max(offered, key=accepted.quality, default=None)
    if best is None or accepted.quality(best) <= 0:
        return None
    # The plain body is always acceptable, but preferred only if it is named explicitly.
    plain = max((quality for name, quality in accepted if name == "identity"), default=0)
    return best if accepted.quality(best) >= plain else None


@lru_cache(maxsize=MAX_FILES)
def encoded_file(path: Path, changed: int, coding: str | None) -> Encoded:
    """A file's bytes in a coding.

    :param changed: its mtime in ns, so that a changed file is read again.
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
