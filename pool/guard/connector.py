"""Connections of aiohttp that only go to addresses that were checked.

The check is made on the very address that a socket is made for, after the last look-up. So no name,
however its answers change, and no spelling of an address leads elsewhere.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

import aiohttp
from aiohttp.abc import AbstractResolver

from pool.guard.addresses import Network, may_connect


class RefusedAddress(OSError):
    """A name led to an address that may not be connected to."""


def connector_to(
    networks: Sequence[Network], resolver: AbstractResolver | None = None
) -> aiohttp.TCPConnector:
    """A connector to public addresses and to those in `networks`. What may not be connected to
    raises `aiohttp.ClientConnectorError`, which `leads_astray` knows.

    `resolver`: looks up names (default: the system's).
    """

    def make(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, proto, _, address = info
        if not may_connect(address[0], networks):
            raise RefusedAddress("connections may not go there")
        return socket.socket(family, kind, proto)

    return aiohttp.TCPConnector(limit=0, resolver=resolver, socket_factory=make)


def leads_astray(error: aiohttp.ClientConnectorError) -> bool:
    """Whether there is no connection because none may be made."""
    return isinstance(error.__cause__, RefusedAddress)
