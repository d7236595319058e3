"""Who is calling, and with what: a principal, and the credential that says so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from pool.turn import Principal

# What each role may besides itself. Any other word is a role of its own, for the rules of tools.
_INCLUDED: Final = {"admin": ("user", "operator", "admin"), "operator": ("user", "operator")}


class Caller(Struct, frozen=True, gc=False):
    """A principal as it called.

    `credential` names what it showed ("key:<id>", never the secret; "" for none). The credential
    counts until `expires_at` (seconds since the epoch; None: until it is withdrawn).
    """

    principal: Principal
    credential: str = ""
    expires_at: float | None = None


# Where nobody is asked who they are, whoever is there owns it.
OWNER: Final = Caller(Principal(roles=("user", "operator", "admin")))


class BadCredential(Exception):
    """What was shown does not say who is calling; `str(error)` is safe to be told to anybody."""


def with_included(roles: Iterable[str]) -> tuple[str, ...]:
    """The roles with those that they include: an admin is an operator, everybody is a user."""
    found = ["user"]
    for role in roles:
        found += _INCLUDED.get(role, (role,))
    return tuple(dict.fromkeys(found))
