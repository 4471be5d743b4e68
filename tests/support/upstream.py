"""A fake upstream on a real socket, scripted by the test.

A script is a function of one `Call`; it runs in a thread of its own and says what goes over the
wire, byte by byte where that matters. What the application closes, a script sees.
"""

import contextlib
import json
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

USAGE = {"prompt_tokens": 7, "completion_tokens": 11, "total_tokens": 18}


class Call:
    """One request of the application's."""

    def __init__(self, sock: socket.socket, path: str, headers: dict[str, str], body: bytes):
        self.sock = sock
        self.path = path
        self.headers = headers
        self.json: dict[str, Any] = json.loads(body) if body else {}
        self.closed = threading.Event()
        self.closed_at = 0.0
        self.over = threading.Event()
        """Set when nothing more is to be said on this call."""
        self._heads = threading.Lock()
        self._has_head = False

    @property
    def prompt(self) -> str:
        """The text of the last message."""
        return self.json["messages"][-1]["content"]

    def head(self, status: int = 200, **headers: str) -> None:
        """Status line and headers, unless they are sent; the body is chunked."""
        lines = [f"HTTP/1.1 {status} X", "Transfer-Encoding: chunked"]
        fields = {"Content-Type": "text/event-stream"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        lines += [f"{name}: {value}" for name, value in fields.items()]
        with self._heads:
            if not self._has_head:
                self._has_head = True
                self.raw("\r\n".join(lines).encode() + b"\r\n\r\n")

    def raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send(self, data: bytes) -> None:
        """Bytes of the body."""
        if data:
            self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    def event(self, chunk: Any) -> None:
        self.send(b"data: %b\n\n" % json.dumps(chunk).encode())

    def text(self, text: str, field: str = "content") -> None:
        self.event({"choices": [{"index": 0, "delta": {field: text}}]})

    def finish(self, reason: str = "stop", usage: bool = True) -> None:
        """The end, as OpenAI sends it."""
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        if usage:
            self.event({"choices": [], "usage": USAGE})
        self.send(b"data: [DONE]\n\n")
        self.raw(b"0\r\n\r\n")
        self.over.set()

    def refuse(self, status: int, message: str = "no", **headers: str) -> None:
        """An error reply in OpenAI's form."""
        body = json.dumps({"error": {"message": message, "type": "x", "code": None}}).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
        lines.append("Content-Type: application/json")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def reset(self) -> None:
        """Break the connection with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # `close` would wait until the file that reads from the socket is closed, too.
        os.close(self.sock.detach())
        self.over.set()

    def cut(self) -> None:
        """End the connection with FIN in the middle of the body."""
        self.sock.shutdown(socket.SHUT_WR)
        self.over.set()

    def wait_closed(self, timeout: float = 10.0) -> bool:
        """Wait until the application closes the connection; whether it did."""
        # Not `select`, which takes no descriptor over 1023.
        waiter = select.poll()
        waiter.register(self.sock, select.POLLIN)
        readable = waiter.poll(timeout * 1000)
        if readable:
            try:
                gone = not self.sock.recv(1, socket.MSG_PEEK)
            except OSError:
                gone = True
            if gone:
                self.closed_at = time.monotonic()
                self.closed.set()
        return self.closed.is_set()


Script = Callable[[Call], None]


def speak(*texts: str, pause: float = 0.0, reason: str = "stop", usage: bool = True) -> Script:
    """A script that says these texts, with a pause before each."""

    def script(call: Call) -> None:
        call.head()
        call.event({"choices": []})
        for text in texts:
            if pause:
                time.sleep(pause)
            call.text(text)
        call.finish(reason, usage)

    return script


def by_hand(call: Call) -> None:
    """A script that accepts, and leaves the rest to the test, which finds the call by its text.

    The test may come first: what it says begins with `head` all the same.
    """
    call.head()
    call.over.wait(60)


def silent(call: Call) -> None:
    """A script that neither accepts nor refuses."""
    call.over.wait(60)


class FakeUpstream:
    """An OpenAI-compatible server at `url`; `script` decides what `/chat/completions` does."""

    def __init__(self) -> None:
        self.script: Script = speak("Hello", " world", ".")
        self.calls: list[Call] = []
        self.models = ["fake-model"]
        self._server = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self._server.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._sockets: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and break what is open."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for sock in tuple(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def wait_for_calls(self, count: int, timeout: float = 10.0) -> None:
        poll(lambda: len(self.calls) >= count, timeout)

    def calls_for(self, prompt: str) -> list[Call]:
        """The requests whose last message was this."""
        return [call for call in tuple(self.calls) if call.prompt == prompt]

    def call(self, prompt: str) -> Call:
        """The newest request whose last message is this; waits for it."""
        calls: list[Call] = poll(lambda: self.calls_for(prompt))
        return calls[-1]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._server.accept()
            except OSError:
                return
            self._sockets.add(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            with sock, sock.makefile("rb") as file:
                while call := self._read(sock, file):
                    self._answer(call)
        except (OSError, ValueError):
            pass  # The application or the test has closed it.
        finally:
            self._sockets.discard(sock)

    def _read(self, sock: socket.socket, file: Any) -> Call | None:
        line = file.readline()
        if not line:
            return None
        headers: dict[str, str] = {}
        while (header := file.readline()) not in (b"\r\n", b""):
            name, _, value = header.decode().partition(":")
            headers[name.lower()] = value.strip()
        body = file.read(int(headers.get("content-length", "0")))
        return Call(sock, line.split()[1].decode(), headers, body)

    def _answer(self, call: Call) -> None:
        if call.path.endswith("/models"):
            body = json.dumps({"object": "list", "data": [{"id": m} for m in self.models]}).encode()
            call.raw(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            return
        self.calls.append(call)
        self.script(call)


def poll(condition: Callable[[], Any], timeout: float = 10.0) -> Any:
    """Wait until `condition` holds; what it returned. Fails the test when it never does."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not (held := condition()):
        assert time.monotonic() < deadline, "did not come true in time"
        pause.wait(0.01)
    return held
