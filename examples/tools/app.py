"""Three functions that the model may call: it asks for what it does not know.

gunicorn -k gevent examples.tools.app:app
"""

from gevent import monkey

monkey.patch_all()

import sqlite3  # noqa: E402 - patched first
from datetime import datetime  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402
from zoneinfo import ZoneInfo  # noqa: E402

from flask import Flask  # noqa: E402

from chatapp import ChatApp, ToolError  # noqa: E402

from .calculator import evaluate  # noqa: E402

MAX_ROWS = 20
SHOP = Path(__file__).with_name("shop.sql").read_text("utf-8")

app = Flask(__name__, static_folder=None)
chat = ChatApp(app)

# Never written to: the tools' threads may share it.
shop = sqlite3.connect(":memory:", check_same_thread=False)
shop.row_factory = sqlite3.Row
shop.executescript(SHOP)


@chat.tool
def calculate(expression: str) -> float:
    """Work out an arithmetic expression exactly.

    :param expression: with + - * / % ** ( ), pi, e, sqrt, log, exp, floor, abs, min and max.
    """
    try:
        return evaluate(expression)
    except ValueError as error:
        raise ToolError(str(error)) from None


@chat.tool(timeout=2)
def find_products(words: str, in_stock: bool = False) -> list[dict[str, Any]]:
    """Look up products of the shop: name, price in cents, pieces in stock.

    :param words: a part of the product's name.
    :param in_stock: leave out what is sold out.
    """
    found = shop.execute(
        "SELECT name, cents, stock FROM product"
        " WHERE instr(lower(name), lower(:words)) AND stock >= :least LIMIT :most",
        {"words": words, "least": int(in_stock), "most": MAX_ROWS},
    )
    return [dict(row) for row in found]


@chat.tool
def current_time(zone: str) -> str:
    """Say the date and the time somewhere.

    :param zone: by its IANA name, such as Asia/Shanghai.
    """
    try:
        return datetime.now(ZoneInfo(zone)).isoformat(timespec="minutes")
    except (OSError, LookupError, ValueError):
        raise ToolError(f"There is no time zone {zone!r}; use a name like Europe/Berlin.") from None
