"""Who is calling. The one place that turns a request into a principal."""

from __future__ import annotations

from typing import Final

from aiohttp.web_request import BaseRequest

from pool.turn import Principal

# Without authentication the server listens on loopback only, and whoever is there owns it.
_LOCAL: Final = Principal(roles=("user", "operator", "admin"))


def authenticate(request: BaseRequest) -> Principal:
    """The principal of a request; `Unauthenticated` if it is not known who calls."""
    return _LOCAL
