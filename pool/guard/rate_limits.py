"""How rates are configured. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from pool.errors import ConfigError
from pool.turn import Principal

Who = Literal["principal", "tenant", "global"]
What = Literal["requests", "tokens"]


class RateLimit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At most `amount` requests or tokens in `window_s` seconds: of each principal (a user of a
    tenant), each tenant, or all together. `of`: amounts of some tenants or principals
    (`tenant/user`) that are others than `amount`.
    """

    who: Who = "principal"
    what: What = "requests"
    amount: int
    window_s: int = 60
    of: Mapping[str, int] = {}

    def __post_init__(self) -> None:
        for option in ("amount", "window_s"):
            value = getattr(self, option)
            if value < 1:
                raise ConfigError(f"rates.{self.name}.{option}", value, "write at least 1")
        for subject, amount in self.of.items():
            if amount < 1:
                raise ConfigError(f"rates.{self.name}.of.{subject}", amount, "write at least 1")
        if self.of and self.who == "global":
            raise ConfigError(
                f"rates.{self.name}.of", dict(self.of), "global is for all: leave out"
            )

    @property
    def name(self) -> str:
        """What callers see it as: `principal-requests-60`."""
        return f"{self.who}-{self.what}-{self.window_s}"

    def subject(self, principal: Principal) -> str:
        """In whose name a principal's requests count."""
        if self.who == "global":
            return ""
        if self.who == "tenant":
            return principal.tenant
        return f"{principal.tenant}/{principal.user}"


def check_rates(limits: Sequence[RateLimit]) -> None:
    """`ConfigError` if two of them would count the same."""
    names = [limit.name for limit in limits]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError("rates", name, "write each limit once, or with other windows")
