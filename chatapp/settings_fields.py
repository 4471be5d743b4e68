"""How an option is declared, found by its name, and read from a text."""

import difflib
import threading
import types
from collections.abc import Mapping
from dataclasses import Field, field
from typing import Any, get_args, get_origin

from .errors import ConfigError

PREFIX = "CHATAPP_"


def option(
    default: Any,
    doc: str,
    *,
    env: str | None = None,
    minimum: float | None = None,
    choices: tuple[str, ...] = (),
    url: bool = False,
) -> Any:
    """A dataclass field that carries its documentation, its variable's name and its bounds."""
    metadata = {"doc": doc, "env": env, "minimum": minimum, "choices": choices, "url": url}
    return field(default=default, metadata=metadata)


def variable(each: Field[Any]) -> str:
    """The name under which an option is set."""
    return each.metadata["env"] or PREFIX + each.name.upper()


def check_url(name: str, value: str) -> None:
    if not value.startswith(("http://", "https://")):
        raise ConfigError(f"{name}={value!r} must begin with http:// or https://.")


def refuse_unknown(source: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in source:
        if isinstance(name, str) and name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)
            raise ConfigError(f"There is no option {name}; the nearest one is {near[0]}.")


def convert(name: str, value: Any, each: Field[Any]) -> Any:
    kind: Any = each.type
    if isinstance(kind, types.UnionType):
        kind = get_args(kind)[0]
    try:
        if get_origin(kind) is tuple:
            parts = value.split(",") if isinstance(value, str) else value
            return tuple(part.strip() for part in parts if part.strip())
        if kind is bool:
            return value if isinstance(value, bool) else _TRUTH[str(value).strip().lower()]
        converted = kind(value)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        raise ConfigError(f"{name}={value!r} is not of the kind {kind.__name__}.") from None
    if (choices := each.metadata["choices"]) and converted not in choices:
        raise ConfigError(f"{name}={value!r} is none of {', '.join(choices)}.")
    minimum = each.metadata["minimum"]
    if minimum is not None and not converted >= minimum:
        raise ConfigError(f"{name}={value!r} is too small; the least is {minimum}.")
    if kind is float and converted > threading.TIMEOUT_MAX:
        raise ConfigError(f"{name}={value!r} is more seconds than can be waited.")
    return converted


_TRUTH = dict.fromkeys(("1", "true", "yes", "on"), True)
_TRUTH |= dict.fromkeys(("0", "false", "no", "off"), False)
