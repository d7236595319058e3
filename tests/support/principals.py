"""Tenants and roles for tests of who may: keys of each, and a server that wants them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from pool.guard.keys import ApiKeys
from pool.store.base import Store
from pool.store.memory import MemoryStore
from protocol.authenticate.config import AuthConfig
from tests.support.serving import Peer, serving

TENANTS: Final = ("acme", "rival")
ROLES: Final = ("user", "operator", "admin")
WITH_KEYS: Final = AuthConfig(mode="keys")

Headers = Mapping[str, str]


class Keys:
    """Headers with a key of each tenant and role."""

    def __init__(self, found: Mapping[tuple[str, str], str]) -> None:
        self._found = found

    def of(self, tenant: str, role: str = "user") -> Headers:
        """The headers of a caller."""
        return {"Authorization": f"Bearer {self._found[tenant, role]}"}


@asynccontextmanager
async def guarded(
    agents: Any, *, store: Store | None = None, roles: Sequence[str] = ROLES, **options: Any
) -> AsyncIterator[tuple[Peer, Keys]]:
    """A server that takes keys only, and a key of each tenant and role."""
    store = store if store is not None else MemoryStore()
    keys = ApiKeys(store)
    found = {
        (tenant, role): (await keys.create(tenant=tenant, user=f"{role}-1", roles=(role,))).text
        for tenant in TENANTS
        for role in roles
    }
    async with serving(agents, store=store, **{"auth": WITH_KEYS, **options}) as peer:
        yield peer, Keys(found)
