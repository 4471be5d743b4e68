"""Values that are not of the kind that they should be, taken as they are meant; no I/O."""

import json
import math
from decimal import Decimal
from typing import Any, Final

MAX_COUNT: Final = Decimal(10**12)
"""Tokens of one call. More is taken for so many: sums of these fit into any database's numbers."""
MAX_DIGITS: Final = 18
"""Digits of a number that is taken for a whole one."""


def decode_loosely(data: bytes) -> Any:
    """JSON with broken UTF-8, halves of characters, or numbers that no machine has.

    :raises ValueError: this is no JSON.
    :raises RecursionError: it is too deep.
    """
    return json.loads(
        data.decode("utf-8", "replace"),
        parse_float=Decimal,
        parse_int=lambda digits: int(digits) if len(digits) <= MAX_DIGITS else Decimal(digits),
        parse_constant=lambda _name: None,
    )


def encode_loosely(value: Any) -> str:
    """What `decode_loosely` gave, as JSON again."""
    return json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"))


def plain(value: Any) -> Any:
    """What `decode_loosely` gave, in the types that any encoder knows."""
    if isinstance(value, Decimal):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


def text_from(value: Any) -> str:
    """A text, or a number as it was written; anything else says nothing."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return str(value)
    return ""


def count_from(value: Any) -> int | None:
    """A number of tokens; None: this is none."""
    try:
        number = Decimal(value) if isinstance(value, str | int | Decimal) else None
    except ArithmeticError:
        return None
    if number is None or not number.is_finite() or number < 0:
        return None
    return int(min(number, MAX_COUNT).to_integral_value(rounding="ROUND_HALF_UP"))
