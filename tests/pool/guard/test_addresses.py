from __future__ import annotations

from ipaddress import ip_network

import pytest

from pool.guard.addresses import EVERYWHERE, may_connect

PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.1",
    "224.0.0.1",
    "233.252.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::2",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "fc00::1",
    "fd12::1",
    "fe80::1",
    "fe80::1%2",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]
PUBLIC = [
    "1.1.1.1",
    "100.128.0.1",
    "172.32.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::",
    "2606:4700::1111",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_public_is_refused(address: str) -> None:
    """No special address, and no IPv6 form of one, may be connected to."""
    assert not may_connect(address, ())


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_allowed(address: str) -> None:
    """Public addresses need no permission, in whatever form."""
    assert may_connect(address, ())


@pytest.mark.parametrize(
    "address", ["", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "10.0.0.256"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    """Only the usual form of an address is one, wherever it may be connected to."""
    assert not may_connect(address, EVERYWHERE)


def test_a_network_can_be_allowed() -> None:
    """Its addresses may be connected to, also in their IPv6 forms; its neighbours may not."""
    allowed = (ip_network("10.1.0.0/16"), ip_network("fd00::/16"))
    assert may_connect("10.1.2.3", allowed)
    assert may_connect("::ffff:10.1.2.3", allowed)
    assert may_connect("fd00::1", allowed)
    assert not may_connect("10.2.0.1", allowed)
    assert not may_connect("fd01::1", allowed)


@pytest.mark.parametrize("address", PRIVATE + PUBLIC)
def test_everything_can_be_allowed(address: str) -> None:
    """Then every address may be connected to."""
    assert may_connect(address, EVERYWHERE)
