"""Who may write to a session: its name, and the lease on it."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct


class SessionKey(NamedTuple):
    """What names a session. Keys in a store begin with the tenant."""

    tenant: str
    id: str


class Lease(Struct, frozen=True, gc=False):
    """The right to write to a session: its owner (a pool's name) and the fencing number."""

    key: SessionKey
    owner: str
    epoch: int
