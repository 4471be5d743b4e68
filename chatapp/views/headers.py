"""What every reply tells a browser: to keep nothing, to run nothing, and to share nothing."""

from typing import Final

from flask import Response, request

from .sites import is_local

DATA_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
"""For what is no page: as a document of its own it loads nothing, and no page shows it."""
PAGE_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'self'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
UNUSED: Final = (
    "accelerometer",
    "camera",
    "display-capture",
    "geolocation",
    "gyroscope",
    "hid",
    "magnetometer",
    "microphone",
    "midi",
    "payment",
    "publickey-credentials-get",
    "screen-wake-lock",
    "serial",
    "usb",
    "xr-spatial-tracking",
)
"""What the page never asks a browser for."""
PERMISSIONS: Final = ", ".join(f"{each}=()" for each in UNUSED)


def protect(response: Response) -> Response:
    """Add what holds for every reply. What a route has set of it stays, as do the page's files."""
    headers = response.headers
    headers["X-Content-Type-Options"] = "nosniff"
    is_read = request.method in ("GET", "HEAD") and response.status_code < 400
    if is_read and (request.endpoint or "").endswith(".static"):
        return response
    headers.setdefault("Cache-Control", "private, no-store")
    headers.setdefault("Content-Security-Policy", DATA_POLICY)
    headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    response.vary.add("Cookie")
    return response


def protect_page(response: Response) -> None:
    """Add what holds for a document that runs the page's script."""
    headers = response.headers
    headers["Content-Security-Policy"] = PAGE_POLICY
    headers["Referrer-Policy"] = "same-origin"
    headers["Permissions-Policy"] = PERMISSIONS
    # Over plain http from another machine browsers ignore it, and complain.
    if request.is_secure or is_local():
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
