"""Who pays for a request: whose counts it adds to. No HTTP.

Somebody who has signed in pays alone. A visitor gets a new cookie for the asking, so visitors pay
together with the network that they come from.
"""

import ipaddress
from typing import Final, NamedTuple

UNKNOWN: Final = "unknown"
"""The network of whoever has no address, e.g. behind a Unix socket."""
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class Payer(NamedTuple):
    """Whom one request is charged to."""

    owner: str
    network: str | None = None
    """From `network_of`; None: the owner has signed in."""
    is_new: bool = False
    """Whether the owner is a visitor who came without a cookie: somebody else each time."""

    @property
    def name(self) -> str:
        """Whom the caps of one owner hold for."""
        return f"address:{self.network}" if self.is_new else self.owner

    @property
    def keys(self) -> tuple[str, ...]:
        """All that are charged: the owner, the address, or both."""
        if self.network is None or self.is_new:
            return (self.name,)
        return (self.owner, f"address:{self.network}")


def network_of(address: str | None) -> str:
    """The part of an address that its user can't change at will.

    That is an IPv4 address, or 64 bits of an IPv6 address. An IPv6 address with an IPv4 address
    inside is that IPv4 address.

    :param address: as the server or a trusted proxy has it, perhaps with a port.
    """
    try:
        found = ipaddress.ip_address(_without_port((address or "").strip()))
    except ValueError:
        return UNKNOWN
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if inside := found.ipv4_mapped or found.sixtofour:
        return str(inside)
    number = int(found)
    if ipaddress.IPv6Address(number) in NAT64:
        return str(ipaddress.IPv4Address(number & 0xFFFF_FFFF))
    return str(ipaddress.IPv6Network((number >> 64 << 64, 64)))


def is_public(network: str) -> bool:
    """Whether this network, from `network_of`, is none that only one place knows, as 10.0.0.1."""
    return network != UNKNOWN and ipaddress.ip_network(network).is_global


def _without_port(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    host, colon, _ = address.rpartition(":")
    return host if colon and ":" not in host else address
