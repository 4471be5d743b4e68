"""HTTP/1.1 on the wire (RFC 9112): the head of a request out, a response in. No I/O.

The parser is `httptools`, llhttp in C. It is stricter than httpx2's own (`h11`) where the standard
lets a client refuse what may mean two things to two readers:

* a bare LF ends no line (RFC 9112 2.2), and a header line isn't folded (5.2);
* both Content-Length and Transfer-Encoding, or Content-Length twice, is an error (6.3);
* HTTP versions other than 1.0 and 1.1, and control characters in a header.

`MAX_HEAD_BYTES` and `MAX_HEADERS` bound what an upstream can make us keep.
"""

import re
from collections.abc import Iterator
from typing import Any

import httptools
import httpx2

MAX_HEAD_BYTES = 100 * 1024
"""Bytes of the head of a response, with the informational responses before it; also of trailers."""
MAX_HEADERS = 256
"""Header lines of a response."""

# RFC 9110 5.6.2 and 5.5; a value has no white space around it.
TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
FIELD_VALUE = re.compile(
    rb"(?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?"
).fullmatch
REASON = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*").fullmatch  # RFC 9112 4
START = b"HTTP/"
TARGET = re.compile(rb"[\x21-\x7e]+").fullmatch


def request_head(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The request line and the headers, with the empty line at the end.

    :raises httpx2.LocalProtocolError: something in it would break the framing.
    """
    if not TOKEN(method) or not TARGET(target):
        raise httpx2.LocalProtocolError("The method or the URL has a character HTTP doesn't allow.")
    lines = [b"%b %b HTTP/1.1" % (method, target)]
    for name, value in headers:
        if not TOKEN(name) or not FIELD_VALUE(value):
            raise httpx2.LocalProtocolError(
                f"The value or the name of the header {name!r} has a character HTTP doesn't allow; "
                "often it is a line break at the end of a key."
            )
        lines.append(b"%b: %b" % (name, value))
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def request_body(request: httpx2.Request) -> Iterator[bytes]:
    """The body in the framing that the headers announce.

    :raises httpx2.LocalProtocolError: it is longer or shorter than its Content-Length.
    """
    assert isinstance(request.stream, httpx2.SyncByteStream)  # noqa: S101 # for mypy
    if "transfer-encoding" in request.headers:
        for piece in request.stream:
            if piece:
                yield b"%x\r\n%b\r\n" % (len(piece), piece)
        yield b"0\r\n\r\n"
        return
    left = int(request.headers.get("content-length", "0"))
    for piece in request.stream:
        left -= len(piece)
        if left < 0:
            raise httpx2.LocalProtocolError("The request body is longer than its Content-Length.")
        yield piece
    if left:
        raise httpx2.LocalProtocolError("The request body is shorter than its Content-Length.")


class ResponseParser:
    """Reads one final response, skipping the informational ones (1xx) before it.

    :param method: of the request; a response to HEAD has no body (RFC 9112 6.3).
    """

    __slots__ = (
        "begun",
        "complete",
        "fed",
        "has_body",
        "head",
        "head_complete",
        "headers",
        "informational",
        "keep_alive",
        "method",
        "on_body",
        "parser",
        "parts",
        "reason",
        "status",
        "until_close",
        "version",
    )

    def __init__(self, method: str) -> None:
        self.method = method
        self.headers: list[tuple[bytes, bytes]] = []
        self.reason = b""
        self.status = 0
        self.version = ""
        self.head_complete = False
        self.complete = False
        self.keep_alive = False
        self.until_close = False
        self.has_body = True
        self.fed = 0
        self.head: bytes | None = b""
        """What the check of the heads' beginnings has to see again; None: they are over."""
        self.begun = False
        """Whether the beginning of the head that is coming was seen."""
        self.informational = 0
        """Informational responses whose end the check has not come to."""
        self.parts: list[bytes] = []
        self.on_body = self.parts.append
        # The parser refers to the methods here: a cycle, until `release`.
        self.parser: Any = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the upstream, give back the bytes of the body among them.

        :raises httpx2.RemoteProtocolError: the upstream broke the protocol. What came of the body
            before that can be had with `take_body`.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            # What follows a complete response doesn't spoil it, only the connection.
            self.keep_alive = False
            if not self.complete:
                raise broken(str(error.__context__ or error)) from error
        if self.head is not None:
            self.check_starts(data)
        parts = self.parts
        # Nearly always it is one part.
        body = parts.pop() if len(parts) == 1 and self.has_body else self.take_body()
        if body or self.complete:
            self.fed = 0
        else:
            self.fed += len(data)
            if self.fed > MAX_HEAD_BYTES:
                raise broken(f"more than {MAX_HEAD_BYTES} bytes without an end of the head")
        return body

    def check_starts(self, data: bytes) -> None:
        """Whether each head begins with its status line (RFC 9112 2.1).

        The parser skips line ends before it, as 2.2 allows for requests only.

        :raises httpx2.RemoteProtocolError: one does not.
        """
        rest = (self.head or b"") + data
        while True:
            if not self.begun:
                if not START.startswith(rest[: len(START)]):
                    self.head_complete = self.complete = False
                    raise broken("a head that does not begin with a status line")
                self.begun = len(rest) >= len(START)
            _, end, after = rest.partition(b"\r\n\r\n")
            if not end:
                self.head = rest[-3:] if self.begun else rest
                return
            if self.head_complete and not self.informational:
                self.head = None
                return
            self.informational -= 1
            self.begun, rest = False, after

    def take_body(self) -> bytes:
        parts = self.parts
        if not parts or not self.has_body:
            return b""
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        return body

    def end(self) -> None:
        """The upstream closed the connection.

        :raises httpx2.RemoteProtocolError: the response wasn't complete.
        """
        self.keep_alive = False
        if self.complete:
            return
        if not self.until_close:
            begun = self.head_complete or self.fed
            raise httpx2.RemoteProtocolError(
                f"The upstream closed the connection {'within' if begun else 'without'} a response."
            )
        self.complete = True

    def release(self) -> None:
        """Break the cycle of references; the parser takes no more bytes."""
        self.parser = None

    # What the parser calls:

    def on_message_begin(self) -> None:
        if self.complete:
            raise ValueError("more than one response")

    def on_status(self, piece: bytes) -> None:
        if not REASON(piece):
            raise ValueError("a control character in the status line")
        self.reason += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head_complete:  # a trailer
            return
        if len(self.headers) >= MAX_HEADERS:
            raise ValueError(f"more than {MAX_HEADERS} headers")
        self.headers.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        if self.head_complete:
            return
        status = self.parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self.headers, self.reason = [], b""
            self.informational += 1
            return
        if status < 200:
            raise ValueError(f"unexpected status {status}")
        self.status = status
        self.version = self.parser.get_http_version()
        self.head_complete = True
        self.frame()

    def frame(self) -> None:
        """How the end of the body is known: RFC 9112 6.3."""
        if self.method == "HEAD" or (self.method == "CONNECT" and self.status < 300):
            # The parser doesn't know the method, and would wait for a body.
            self.complete, self.has_body = True, False
            return
        framing = [(name.lower(), value.lower()) for name, value in self.headers]
        encodings = [value for name, value in framing if name == b"transfer-encoding"]
        if encodings not in ([], [b"chunked"]):
            raise ValueError("a Transfer-Encoding other than chunked")
        lengths = [value for name, value in framing if name == b"content-length"]
        self.until_close = not encodings and not lengths

    def on_message_complete(self) -> None:
        if self.head_complete and not self.complete:
            self.complete = True
            self.keep_alive = self.parser.should_keep_alive()


def broken(what: str) -> httpx2.RemoteProtocolError:
    return httpx2.RemoteProtocolError(f"The upstream's response breaks HTTP: {what}.")
