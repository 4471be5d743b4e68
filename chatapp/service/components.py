"""The components of one chat. Built by `wiring`, passed to the views; nothing is global."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..conversations.store import Store
from ..delivery.client_connection import SlowClientGuard
from ..settings import Settings
from ..upstream.client import Upstream
from .service import Service
from .setup_check import SetupCheck


@dataclass(frozen=True, kw_only=True, eq=False)
class Components:
    """The components of one chat in one application."""

    settings: Settings
    store: Store
    upstream: Upstream
    service: Service
    stalls: SlowClientGuard
    secrets: Callable[[], Sequence[str]]
    """What cookies and tickets are signed with. Raises `Misconfigured`."""
    setup: SetupCheck
