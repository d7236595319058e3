"""What turns may cost, as options: limits, budgets, prices and usage. Nothing optional is imported
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct
from msgspec.structs import asdict

from pool.errors import ConfigError
from pool.guard.budget import Budget, BudgetRule
from pool.guard.ledger import CostConfig
from pool.guard.prices import Price
from pool.guard.quota import QuotaLimits
from pool.guard.rates import RateLimit, What, Who, check_rates
from pool.guard.usage import UsageConfig
from pool.store.redis_url import parse_redis_url

Count = Annotated[int, Meta(ge=1)]

_MINUTE_S: Final = 60
# option -> whose, and of what
_PER_MINUTE: Final[Mapping[str, tuple[Who, What]]] = {
    "requests_per_minute": ("principal", "requests"),
    "tokens_per_minute": ("principal", "tokens"),
    "tenant_requests_per_minute": ("tenant", "requests"),
    "tenant_tokens_per_minute": ("tenant", "tokens"),
    "global_requests_per_minute": ("global", "requests"),
    "global_tokens_per_minute": ("global", "tokens"),
}


class LimitSettings(Struct, frozen=True, kw_only=True):
    """How much callers may ask for; without an option nothing of its kind is limited.

    `rates`: any others, or in other stretches of time. `turns_per_tenant` (waiting or running) and
    `connections_per_tenant` (WebSockets, and answers that are streamed) are of one process;
    `turns_of`, `connections_of`: tenants that may have another number. `url`: the Redis that
    requests and tokens are counted in (None: the store).
    """

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    tenant_requests_per_minute: Count | None = None
    tenant_tokens_per_minute: Count | None = None
    global_requests_per_minute: Count | None = None
    global_tokens_per_minute: Count | None = None
    rates: tuple[RateLimit, ...] = ()
    turns_per_tenant: Count | None = None
    turns_of: Mapping[str, Annotated[int, Meta(ge=0)]] = {}
    connections_per_tenant: Count | None = None
    connections_of: Mapping[str, Annotated[int, Meta(ge=0)]] = {}
    url: str | None = None

    def __post_init__(self) -> None:
        check_rates(self.all_rates)
        if self.url is not None:
            try:
                parse_redis_url(self.url)
            except ConfigError as mistake:
                raise ConfigError("url", mistake.value, mistake.remedy) from None

    @property
    def all_rates(self) -> tuple[RateLimit, ...]:
        """Those of the options that are in a minute, then the others."""
        of_minutes = (
            RateLimit(who=who, what=what, amount=amount, window_s=_MINUTE_S)
            for option, (who, what) in _PER_MINUTE.items()
            if (amount := getattr(self, option)) is not None
        )
        return (*of_minutes, *self.rates)


class UsageSettings(UsageConfig, frozen=True, kw_only=True):
    """How usage is kept, and where prices come from that are not configured: from the package
    `genai-prices`, if it is installed (`auto`), in any case, or from nowhere (`off`).
    """

    price_table: Literal["auto", "genai-prices", "off"] = "auto"


def budget_of(name: str, rule: BudgetRule) -> Budget:
    """A budget as it was written below its name."""
    return Budget(name=name, **asdict(rule))


def cost_of(
    limits: LimitSettings,
    budgets: tuple[Budget, ...],
    prices: Mapping[str, Price],
    usage: UsageSettings,
) -> CostConfig:
    """What a pool is told of all this."""
    return CostConfig(
        rates=limits.all_rates,
        turns=QuotaLimits(each=limits.turns_per_tenant, of=limits.turns_of),
        connections=QuotaLimits(each=limits.connections_per_tenant, of=limits.connections_of),
        prices=prices,
        budgets=budgets,
        usage=UsageConfig(keep_days=usage.keep_days),
    )
