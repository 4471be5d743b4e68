"""How an option is declared, found by its name, and read from a text."""

import difflib
import ipaddress
import re
import ssl
import threading
import types
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import Field, field
from pathlib import Path
from typing import Any, get_args, get_origin

from .errors import ConfigError

PREFIX = "CHATAPP_"
AROUND = " \t\r\n\f\v\u00a0\u200b\u2060\ufeff"
"""What gets around a value when it is copied, or read from a file."""
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]+)?", re.ASCII)
LEAST_SECRET_BYTES = 16
ENDPOINTS = ("/chat/completions", "/completions")
"""Paths that are added for each request."""


def option(
    default: Any,
    doc: str,
    *,
    env: str | None = None,
    minimum: float | None = None,
    choices: tuple[str, ...] = (),
    mend: str = "",
    hidden: bool = False,
) -> Any:
    """A dataclass field that carries its documentation, its variable's name and its bounds.

    :param mend: which of `MENDS` finds out what is plainly meant by a text.
    :param hidden: the value is, or contains, a secret: neither `repr` nor a message shows it.
    """
    hidden = hidden or mend in ("key", "secret", "address", "azure_address")
    metadata = {"doc": doc, "env": env, "minimum": minimum, "choices": choices, "mend": mend}
    return field(default=default, metadata=metadata | {"hidden": hidden}, repr=not hidden)


def variable(each: Field[Any]) -> str:
    """The name under which an option is set."""
    return each.metadata["env"] or PREFIX + each.name.upper()


def word(name: str, value: str) -> str:  # noqa: ARG001 - as all that mend
    """A name, without what was copied along."""
    value = value.strip(AROUND)
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1].strip(AROUND) if quoted else value


def key(name: str, value: str) -> str:
    """What goes into a header. A message never shows it.

    :raises ConfigError: it can't.
    """
    value = word(name, value).removeprefix("Bearer ").strip(AROUND)
    wrong = next((i for i, each in enumerate(value, 1) if not "!" <= each <= "~"), None)
    if wrong is not None:
        raise ConfigError(
            f"{name} has a character that no key has, its {wrong}. of {len(value)}. Copy it anew."
        )
    return value


def secret(name: str, value: str) -> str:
    """What signs. A message never shows it.

    :raises ConfigError: it is so short that it can be found out by trying.
    """
    value = value.strip(AROUND)
    if len(value.encode(errors="surrogatepass")) < LEAST_SECRET_BYTES:
        raise ConfigError(
            f"{name} has a secret of fewer than {LEAST_SECRET_BYTES} bytes, which can be found out "
            "by trying. Take what `openssl rand -hex 32` prints."
        )
    return value


def address(name: str, value: str) -> str:
    """The address of an API, up to what is added to it for each request.

    A message never shows it: it may hold a password, or be a key that was put into its place.

    :raises ConfigError: it is none, or has more than an address has.
    """
    value = word(name, value)
    if not value.startswith(("http://", "https://")):
        raise ConfigError(f"{name} must begin with http:// or https://.")
    try:
        parts = urllib.parse.urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(f"{name} is no address: its host or its port can't be read.") from None
    if not host or any(each.isspace() or not each.isprintable() for each in value):
        raise ConfigError(f"{name} is no address: it needs a host, and has no blanks.")
    if parts.query or parts.fragment:
        raise ConfigError(
            f"{name} has something behind its path, from '?' or '#' on. Leave that out: what is "
            "asked for is added to the address. For Azure set AZURE_OPENAI_ENDPOINT and "
            "OPENAI_API_VERSION instead."
        )
    path = re.sub("/{2,}", "/", parts.path)
    for endpoint in ENDPOINTS:
        path = path.rstrip("/").removesuffix(endpoint)
    return f"{parts.scheme}://{parts.netloc}{path}"


def azure_address(name: str, value: str) -> str:
    """The address of an Azure resource, whatever of its API's path was copied along.

    :raises ConfigError: as `address`.
    """
    plain = address(name, word(name, value).partition("?")[0])
    parts = urllib.parse.urlsplit(plain)
    return f"{parts.scheme}://{parts.netloc}{parts.path.partition('/openai')[0]}"


def is_this_machine(host: str | None) -> bool:
    """Whether a host's name or address is of the machine that asks."""
    if host is None:
        return False
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return found.is_loopback or found.is_unspecified


def host(name: str, value: str) -> str:
    """The name of a server, as a `Host` header has it, without its port.

    :raises ConfigError: it is none.
    """
    found = HOST.fullmatch(value.lower())
    if not found:
        raise ConfigError(
            f"{name} has {value!r}, which is no host name. List names alone, such as chat.example."
        )
    return found[1]


MENDS: dict[str, Callable[[str, str], str]] = {
    "address": address,
    "azure_address": azure_address,
    "host": host,
    "key": key,
    "secret": secret,
    "word": word,
}


def check_azure(settings: Any) -> None:
    """See that an Azure resource comes with what is needed to ask it.

    :raises ConfigError: it doesn't.
    """
    if not settings.azure_endpoint:
        return
    if not settings.azure_api_version:
        raise ConfigError(
            "AZURE_OPENAI_ENDPOINT needs OPENAI_API_VERSION, such as 2024-10-21. Set it, or unset "
            "AZURE_OPENAI_ENDPOINT."
        )
    if not (settings.azure_api_key or settings.azure_ad_token or settings.api_key):
        raise ConfigError(
            "AZURE_OPENAI_ENDPOINT needs AZURE_OPENAI_API_KEY or AZURE_OPENAI_AD_TOKEN."
        )


def check_certificates(environ: Mapping[str, str]) -> None:
    """See that own certificate authorities are there.

    :raises ConfigError: `SSL_CERT_FILE` or `SSL_CERT_DIR` names what can't be read.
    """
    if file := environ.get("SSL_CERT_FILE"):
        try:
            ssl.create_default_context(cafile=file)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"SSL_CERT_FILE={file!r} is no file of certificates: {error}. Correct it, or unset "
                "it to trust the system's."
            ) from None
    elif (folder := environ.get("SSL_CERT_DIR")) and not Path(folder).is_dir():
        raise ConfigError(f"SSL_CERT_DIR={folder!r} is no folder. Correct it, or unset it.")


def check_field(name: str, known: Mapping[str, Any]) -> None:
    """:raises ConfigError: no option has this field's name."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0)
        raise ConfigError(f"There is no option {name!r}; the nearest one is {near[0]!r}.")


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
            mend = MENDS[each.metadata["mend"] or "word"]
            return tuple(mend(name, part.strip()) for part in parts if part.strip())
        if kind is bool:
            return value if isinstance(value, bool) else _TRUTH[str(value).strip().lower()]
        converted = kind(value)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        shown = name if each.metadata["hidden"] else f"{name}={value!r}"
        of = getattr(kind, "__name__", str(kind))
        raise ConfigError(f"{shown} is not of the kind {of}.") from None
    if (choices := each.metadata["choices"]) and converted not in choices:
        raise ConfigError(f"{name}={value!r} is none of {', '.join(choices)}.")
    if mend := each.metadata["mend"]:
        return MENDS[mend](name, converted) if word(name, converted) else None
    minimum = each.metadata["minimum"]
    if minimum is not None and not converted >= minimum:
        raise ConfigError(f"{name}={value!r} is too small; the least is {minimum}.")
    if kind is float and converted > threading.TIMEOUT_MAX:
        raise ConfigError(f"{name}={value!r} is more seconds than can be waited.")
    return converted


_TRUTH = dict.fromkeys(("1", "true", "yes", "on"), True)
_TRUTH |= dict.fromkeys(("0", "false", "no", "off"), False)
