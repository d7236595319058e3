"""Which addresses this process may connect to on somebody's word: a webhook's, an MCP server's.

Pure: nothing is looked up here.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

from pool.errors import ConfigError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# What `is_global` of all the Pythons we run on does not know of.
_SPECIAL: Final = tuple(
    map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "fec0::/10"))
)
# IPv6 networks whose addresses lead to an IPv4 address, and where its four bytes begin.
_EMBEDDING: Final = (
    (ip_network("::ffff:0:0/96"), 12),
    (ip_network("::/96"), 12),
    (ip_network("64:ff9b::/96"), 12),
    (ip_network("2002::/16"), 2),
)
EVERYWHERE: Final[Sequence[Network]] = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def read_networks(allow_private: bool | tuple[str, ...]) -> Sequence[Network]:
    """The networks that an option `allow_private` allows besides public addresses: none, all, or
    those that it lists. `ConfigError` if one cannot be read.
    """
    if isinstance(allow_private, bool):
        return EVERYWHERE if allow_private else ()
    return tuple(map(_read_network, allow_private))


def may_connect(address: str, allowed: Sequence[Network]) -> bool:
    """Whether it may be connected to an address: a public one, or one of the `allowed`.

    Private, loopback, link-local, shared (carrier NAT), multicast, unspecified and other special
    addresses are not public (RFC 6890), nor are IPv6 forms of such an IPv4 address.
    """
    try:
        found = _meant(ip_address(address))
    except ValueError:
        return False
    if any(found.version == network.version and found in network for network in allowed):
        return True
    special = any(found.version == network.version and found in network for network in _SPECIAL)
    return found.is_global and not found.is_multicast and not special


def _read_network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        remedy = "write networks as 10.1.0.0/16 or fd00::/8, the part after the prefix zero"
        raise ConfigError("allow_private", text, remedy) from None


def _meant(address: Address) -> Address:
    """The IPv4 address that an IPv6 address leads to, if it is such a form."""
    if isinstance(address, IPv6Address) and address not in _NO_FORMS:
        for network, begin in _EMBEDDING:
            if address in network:
                return IPv4Address(address.packed[begin : begin + 4])
    return address


_NO_FORMS: Final = frozenset({IPv6Address("::"), IPv6Address("::1")})
