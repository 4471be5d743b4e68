"""A client of the wire protocol, on plain sockets: cookies, JSON, event streams that can be cut."""

import http.client
import http.cookies
import json
import socket
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

ANY_CERTIFICATE = ssl.create_default_context()
ANY_CERTIFICATE.check_hostname = False
ANY_CERTIFICATE.verify_mode = ssl.CERT_NONE


class Sent(NamedTuple):
    """An event as an `EventSource` would report it."""

    id: str
    event: str
    data: Any

    @property
    def is_end(self) -> bool:
        return self.event in ("done", "failed")


@dataclass
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]


class Client:
    """One visitor: keeps its cookie."""

    def __init__(self, url: str, timeout: float = 30.0) -> None:
        self.host = urlsplit(url).netloc
        self.has_tls = urlsplit(url).scheme == "https"
        self.timeout = timeout
        self.cookie: str | None = None

    def request(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> http.client.HTTPResponse:
        """Send; the reply with its body unread. Underscores in header names stand for hyphens."""
        connection = (
            http.client.HTTPSConnection(self.host, timeout=self.timeout, context=ANY_CERTIFICATE)
            if self.has_tls
            else http.client.HTTPConnection(self.host, timeout=self.timeout)
        )
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            fields["Cookie"] = self.cookie
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            fields.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, data, fields)
            response = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        if connection.sock:  # It closes with the response, read to the end or not.
            connection.sock.close()
        for header in response.headers.get_all("Set-Cookie") or ():
            name, morsel = next(iter(http.cookies.SimpleCookie(header).items()))
            self.cookie = f"{name}={morsel.value}"
        return response

    def send(
        self, method: str, path: str, version: str = "1.1", receive_buffer: int = 0, **headers: str
    ) -> socket.socket:
        """Send a request's head on a connection of its own; the socket, with nothing read yet.

        :param receive_buffer: bytes that the client's kernel takes before the client reads.
        """
        sock = socket.socket()
        sock.settimeout(self.timeout)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        host, _, port = self.host.partition(":")
        sock.connect((host, int(port)))
        if self.has_tls:
            sock = ANY_CERTIFICATE.wrap_socket(sock)
        fields = {"Host": self.host, "Cookie": self.cookie or "none=0", **headers}
        lines = [f"{method} {path} HTTP/{version}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        return sock

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        response = self.request(method, path, body, **headers)
        with response:
            return Reply(response.status, response.headers, response.read())

    def get(self, path: str, **headers: str) -> Reply:
        return self.call("GET", path, **headers)

    def ask(self, message: str = "hi", **fields: Any) -> dict[str, Any]:
        """Start an answer; the 202's body."""
        reply = self.call("POST", "/api/chat", {"message": message, **fields})
        assert reply.status == 202, (reply.status, reply.body)
        return reply.json

    def stream(self, path: str, **headers: str) -> "Stream":
        return Stream(self.request("GET", path, **headers))

    def ask_streaming(self, message: str = "hi", **fields: Any) -> "Stream":
        body = {"message": message, **fields}
        return Stream(self.request("POST", "/api/chat", body, Accept="text/event-stream"))


class Stream:
    """An event stream; iterate for its events, as they come."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.response = response
        self.status = response.status
        self.headers = response.headers
        self.raw = b""
        self.ended_cleanly = False

    def blocks(self) -> Iterator[bytes]:
        """Bytes as they arrive."""
        while True:
            try:
                block = self.response.read1(65536)
            except http.client.IncompleteRead:
                return
            if not block:
                self.ended_cleanly = True
                return
            self.raw += block
            yield block

    def __iter__(self) -> Iterator[Sent]:
        rest = b""
        for block in self.blocks():
            *whole, rest = (rest + block).split(b"\n\n")
            for each in whole:
                if event := parse(each):
                    yield event

    def all(self) -> list[Sent]:
        """Every event to the end of the stream; then the connection is closed."""
        with self.response:
            return list(self)

    def close(self) -> None:
        self.response.close()

    def reset(self) -> None:
        """Close so that the server gets a RST, where the response is not over."""
        if self.response.fp:
            linger(self.response.fp.raw._sock)
        self.close()


def reset(sock: socket.socket) -> None:
    """Break a connection with RST, as a crashed client's machine does."""
    linger(sock)
    sock.close()


def linger(sock: socket.socket) -> None:
    """Have the socket's closing send a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def parse(block: bytes) -> Sent | None:
    """One event of our own subset of the format; None for comments and `retry`."""
    fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if line[:1] != ":")
    if "data" not in fields:
        return None
    return Sent(fields["id"], fields.get("event", "message"), json.loads(fields["data"]))


def parse_all(raw: bytes) -> list[Sent]:
    """The complete events of a stream's bytes; an incomplete last one does not count."""
    return [event for block in raw.split(b"\n\n")[:-1] if (event := parse(block))]


def joined(events: list[Sent]) -> str:
    """The answer's text as a client ends up with it."""
    text = ""
    for event in events:
        if event.event == "message":
            text += event.data["text"]
        elif event.event == "snapshot":
            text = event.data["text"]
    return text
