"""How many of something a tenant may have at a time in this process: turns, connections."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from pool.errors import ConfigError


class QuotaLimits(Struct, frozen=True, kw_only=True):
    """How many a tenant may have at a time (None: any number). `of`: tenants for whom it is
    another number.
    """

    each: int | None = None
    of: Mapping[str, int] = {}

    def __post_init__(self) -> None:
        if self.each is not None and self.each < 1:
            raise ConfigError("quota.each", self.each, "write at least 1, or leave it out")
        for tenant, most in self.of.items():
            if most < 0:
                raise ConfigError(f"quota.of.{tenant}", most, "write at least 0")


class Quota:
    """Counts what each tenant has. Taking and giving back never wait."""

    __slots__ = ("_held", "_limits")

    def __init__(self, limits: QuotaLimits) -> None:
        self._limits = limits
        # tenants that have none are not in it
        self._held: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Quota [{sum(self._held.values())} held by {len(self._held)} tenants]>"

    def held(self, tenant: str) -> int:
        """How many the tenant has."""
        return self._held.get(tenant, 0)

    def take(self, tenant: str) -> bool:
        """Take one, if the tenant may have one more."""
        limits, held = self._limits, self._held.get(tenant, 0)
        most = limits.of.get(tenant, limits.each)
        if most is not None and held >= most:
            return False
        self._held[tenant] = held + 1
        return True

    def give(self, tenant: str) -> None:
        """Give one back that was taken."""
        held = self._held[tenant] - 1
        if held:
            self._held[tenant] = held
        else:
            del self._held[tenant]
