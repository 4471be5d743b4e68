"""Headless Chromium, and a way to the server that can be cut: what tests of the page need."""

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser")
"""The first has the same engine and no window of its own: half the work."""
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Another host than this one: over plain HTTP a browser takes `gzip` there, and no more.
    "--host-resolver-rules=MAP chat.example 127.0.0.1",
)
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""
PATIENCE = 30.0
"""Seconds until a page that does not do what it should has failed; a busy machine is slow."""
FAILED_REQUEST = "Failed to load resource"
"""How the console reports a reply from 400 up or a lost connection, also a handled one."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser. A machine without one skips the test; under CI that is a failure."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        missing = f"There is no Chromium; install it (Debian: apt-get install {PROGRAMS[0]})."
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Visits:
    """Opens pages, and keeps what their consoles said."""

    def __init__(self, browser: Browser, pictures: Path | None = None) -> None:
        self.browser = browser
        self.pictures = pictures
        self.complaints: list[str] = []
        self.requests_may_fail = False
        self._contexts: list[Any] = []

    def open(
        self,
        url: str,
        *,
        locale: str = "en-US",
        size: tuple[int, int] = (1280, 800),
        scheme: Any = "light",
        motion: Any = "no-preference",
        script: str = "",
        bypass_csp: bool = False,
    ) -> Page:
        """A page in a new profile: a visitor whom nobody knows.

        :param script: runs first in all pages of the profile.
        """
        context = self.browser.new_context(
            locale=locale,
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            reduced_motion=motion,
            bypass_csp=bypass_csp,
            permissions=["clipboard-read", "clipboard-write"],
        )
        context.set_default_timeout(PATIENCE * 1000)
        context.add_init_script(REPORT_VIOLATIONS + script)
        self._contexts.append(context)
        return self.tab(context, url)

    def tab(self, context: BrowserContext, url: str) -> Page:
        """One more page of a visitor."""
        page = context.new_page()
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.goto(url)
        return page

    def picture(self, page: Page, name: str) -> None:
        """Keep a picture for a person to look at, where there is a folder for it."""
        if self.pictures:
            page.screenshot(path=self.pictures / f"{name}.png")

    def close(self) -> None:
        """Close all pages; any error in a console fails the test."""
        for context in self._contexts:
            context.close()
        assert not self.complaints, self.complaints

    def _on_console(self, message: ConsoleMessage) -> None:
        harmless = self.requests_may_fail and message.text.startswith(FAILED_REQUEST)
        if message.type in ("error", "warning") and not harmless:
            self.complaints.append(f"{message.type}: {message.text} ({message.location['url']})")


class Relay:
    """A TCP relay in front of a server: its connections can be cut, its target changed.

    `received` counts the bytes that the server has sent.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.received = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._refusing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Cut every connection that is open; new ones get through."""
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def refuse(self, refusing: bool = True) -> None:
        """Cut every connection, and each new one at once, until told otherwise."""
        self._refusing = refusing
        if refusing:
            self.cut()

    def close(self) -> None:
        """End for good."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._refusing:
                    client.close()
                else:
                    threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            client.close()
            return
        with self._lock:
            self._open |= {client, server}
        back = threading.Thread(target=self._copy, args=(server, client, True), daemon=True)
        back.start()
        self._copy(client, server)
        back.join()
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()

    def _copy(self, source: socket.socket, sink: socket.socket, counts: bool = False) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if counts:
                    with self._lock:
                        self.received += len(data)
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
