"""What one chat consists of. Made by the extension, handed to the views; nothing is global."""

from dataclasses import dataclass

from .config import Settings
from .connections import StallGuard
from .service import Service
from .store import Store
from .upstream import Upstream


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """The parts of one chat in one application."""

    settings: Settings
    store: Store
    upstream: Upstream
    service: Service
    stalls: StallGuard
