"""What costs need that is not in the core: a Redis for rates, a table of prices. Made when asked
for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pool.errors import ConfigError
from pool.guard.prices import PriceTable
from pool.store.urls import without_password
from protocol.settings import Settings
from protocol.spending import LimitSettings, UsageSettings

if TYPE_CHECKING:
    from pool.guard.rates_redis import RedisWindows


def windows_of(limits: LimitSettings) -> RedisWindows | None:
    """Where rates are counted, to be closed; None: in the store. `ConfigError` if a package for it
    is missing.
    """
    if limits.url is None:
        return None
    try:
        from pool.guard.rates_redis import RedisWindows
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "pool":
            raise
        remedy = 'this needs other packages: pip install "actorpool[limits,redis]"'
        raise ConfigError("limits.url", without_password(limits.url), remedy) from None
    return RedisWindows(limits.url)


def table_of(usage: UsageSettings) -> PriceTable | None:
    """The prices that are not configured; None: there are none. `ConfigError` if the package that
    was asked for is missing.
    """
    if usage.price_table == "off":
        return None
    from pool.guard.prices_genai import genai_prices

    table = genai_prices()
    if table is None and usage.price_table != "auto":
        remedy = 'this needs another package: pip install "actorpool[prices]"'
        raise ConfigError("usage.price_table", usage.price_table, remedy)
    return table


def check_costs(settings: Settings) -> Iterator[str]:
    """What is limited, and what is known of prices, a line each; `ConfigError` as above."""
    windows_of(settings.limits)
    table = table_of(settings.usage)
    rates = [f"{rate.name} {rate.amount}" for rate in settings.limits.all_rates]
    yield f"limits  {', '.join(rates) or 'none'}"
    yield f"budgets {', '.join(budget.name for budget in settings.budgets) or 'none'}"
    known = [f"{len(settings.prices)} configured", *(() if table is None else ("genai-prices",))]
    yield f"prices  {', '.join(known)}"
