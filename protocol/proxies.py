"""Who is behind a proxy: what it says about its client counts only if the proxy is trusted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, Literal

from aiohttp.web_request import BaseRequest

Address = IPv4Address | IPv6Address

_UNKNOWN: Final = "unknown"
_with_port: Final = re.compile(r"(?:\[([^]]+)\]|([0-9.]+))(?::[0-9]{1,5})?").fullmatch


class Proxies:
    """The proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed, by network."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = tuple(map(ip_network, networks))

    def __repr__(self) -> str:
        return f"<Proxies {', '.join(map(str, self._networks)) or 'none'}>"

    def client(self, request: BaseRequest) -> str:
        """The address of the client: the nearest one that is no trusted proxy; "unknown" if it
        cannot be told. For logs, never for a decision about what somebody may.
        """
        nearest = _address(_peer(request))
        if nearest is None:
            return _UNKNOWN
        # each proxy adds the one it was called by at the end: the first may be anybody's invention
        for said in reversed(_listed(request, "X-Forwarded-For")):
            if not self._trusted(nearest):
                break
            before = _address(_without_port(said))
            if before is None:
                break
            nearest = before
        return str(nearest)

    def scheme(self, request: BaseRequest) -> Literal["http", "https"] | None:
        """How the client called the proxy; None if no trusted proxy says so."""
        peer = _address(_peer(request)) if self._networks else None
        if peer is None or not self._trusted(peer):
            return None
        said = _listed(request, "X-Forwarded-Proto")
        if not said:
            return None
        return "https" if said[-1].lower() == "https" else "http"

    def _trusted(self, address: Address) -> bool:
        return any(
            address.version == network.version and address in network for network in self._networks
        )


def _peer(request: BaseRequest) -> str:
    transport = request.transport
    peer = transport.get_extra_info("peername") if transport is not None else None
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""


def _listed(request: BaseRequest, name: str) -> Sequence[str]:
    return [each.strip() for each in ",".join(request.headers.getall(name, ())).split(",") if each]


def _without_port(text: str) -> str:
    # some proxies write the port that their client called from, and IPv6 in brackets then
    found = _with_port(text)
    return text if found is None else found[1] or found[2]


def _address(text: str) -> Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found
