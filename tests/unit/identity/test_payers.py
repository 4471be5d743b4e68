"""Whom a request is charged to, whatever its address looks like."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.identity.payers import UNKNOWN, Payer, network_of
from tests.support.hypothesis_settings import FEW, TEXTS


@FEW
@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_an_ipv6_address_counts_by_its_first_64_bits(
    address: ipaddress.IPv6Address, host: int
) -> None:
    other = ipaddress.IPv6Address(int(address) >> 64 << 64 | host)
    if not (address.ipv4_mapped or other.ipv4_mapped or address in NAT64 or other in NAT64):
        assert network_of(str(address)) == network_of(str(other))
    elsewhere = ipaddress.IPv6Address(int(address) ^ 1 << 64)
    if not address.sixtofour:
        assert network_of(str(address)) != network_of(str(elsewhere))


NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@FEW
@given(st.ip_addresses(v=4), st.integers(1, 65_535))
def test_an_ipv4_address_is_the_same_however_it_is_written(
    address: ipaddress.IPv4Address, port: int
) -> None:
    number = int(address)
    mapped = ipaddress.IPv6Address(0xFFFF << 32 | number)
    translated = ipaddress.IPv6Address(int(NAT64.network_address) | number)
    tunnelled = ipaddress.IPv6Address(0x2002 << 112 | number << 80 | port)
    for written in (
        str(address),
        f"{address}:{port}",
        f" {address} ",
        str(mapped),
        mapped.exploded,
        f"[{mapped}]:{port}",
        str(translated),
        str(tunnelled),
    ):
        assert network_of(written) == str(address), written


@pytest.mark.parametrize("address", [None, "", "unix:", "unknown", "-", "a.example", "1.2.3", "["])
def test_what_is_no_address_is_one_network(address: str | None) -> None:
    assert network_of(address) == UNKNOWN


@FEW
@given(TEXTS)
def test_no_text_makes_a_network_of_its_own(text: str) -> None:
    found = network_of(text)
    assert found == UNKNOWN or ipaddress.ip_network(found)


def test_a_scope_makes_no_difference() -> None:
    assert network_of("fe80::1%eth0") == network_of("fe80::2%eth1") == "fe80::/64"


def test_who_has_signed_in_pays_alone() -> None:
    assert Payer("chat/user:ann").keys == ("chat/user:ann",)


def test_a_visitor_pays_together_with_the_address() -> None:
    assert Payer("chat/visitor:a", "192.0.2.1").keys == ("chat/visitor:a", "address:192.0.2.1")


def test_who_comes_without_a_cookie_is_only_known_by_the_address() -> None:
    payer = Payer("chat/visitor:a", "192.0.2.1", is_new=True)
    assert (payer.keys, payer.name) == (("address:192.0.2.1",), "address:192.0.2.1")
