"""What a turn costs: tokens times prices, in millionths of a US dollar.

A price in US dollars for a million tokens is the same number in micro-USD for one token. What no
price is known for costs None, never nothing, and is told once a model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from math import isfinite
from typing import Final, NamedTuple, Protocol

import structlog
from msgspec import Struct

from pool.errors import ConfigError
from pool.turn import Usage

MICRO: Final = 1_000_000
_NOTHING: Final = Decimal(0)
# Models are named by agents: of so many different ones the unknown are told of, each once.
_TOLD_MAX: Final = 1_000

_log = structlog.get_logger("pool.guard.prices")


class Price(Struct, frozen=True):
    """What a model costs, in US dollars for a million tokens."""

    input: float
    output: float

    def __post_init__(self) -> None:
        for name in ("input", "output"):
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0):
                raise ConfigError(name, value, "write US dollars for a million tokens")


class _Exact(NamedTuple):
    """A price as it was written."""

    input: Decimal
    output: Decimal

    def cost(self, usage: Usage) -> Decimal:
        """Micro-USD for these tokens, exactly."""
        return self.input * usage.input_tokens + self.output * usage.output_tokens


class PriceTable(Protocol):
    """Prices that somebody else keeps up to date."""

    def cost(self, model: str, usage: Usage) -> Decimal | None:
        """Micro-USD for these tokens; None if the model's price is not known. Does not wait."""


class Prices:
    """The prices of the configuration, and behind them those of a table.

    `overrides`: by the name of a model, as agents report it. A name that ends in `*` stands for all
    that begin so; the longest that fits is taken. `unknown` is called with a model for which there
    is no price, once.
    """

    def __init__(
        self,
        overrides: Mapping[str, Price] | None = None,
        *,
        table: PriceTable | None = None,
        unknown: Callable[[str], None] | None = None,
    ) -> None:
        prices = {
            name: _Exact(exact(price.input), exact(price.output))
            for name, price in (overrides or {}).items()
        }
        self._exact = {name: price for name, price in prices.items() if not name.endswith("*")}
        self._begins = sorted(
            ((name[:-1], price) for name, price in prices.items() if name.endswith("*")),
            key=lambda entry: -len(entry[0]),
        )
        self._table = table
        self._unknown = unknown
        self._told: set[str] = set()
        # turns without a price, by model; all others together once there are too many of them
        self.unpriced: Counter[str] = Counter()

    def __repr__(self) -> str:
        known = len(self._exact) + len(self._begins)
        return f"<Prices [{known} of the configuration, {len(self.unpriced)} models unknown]>"

    def cost(self, model: str, usage: Usage) -> Decimal | None:
        """Micro-USD for these tokens of a model; None if its price is not known."""
        price = self._price(model)
        if price is not None:
            return price.cost(usage)
        return self._table.cost(model, usage) if self._table is not None else None

    def cost_of(self, usage: Usage) -> Decimal | None:
        """Micro-USD for all that a turn used; None, and told, if a price is missing; None if models
        were asked, and nobody said how many tokens that took.

        A turn that used several models does not say how many tokens went to which: it is charged as
        if all had gone to the dearest.
        """
        if not (usage.input_tokens or usage.output_tokens):
            return None if usage.requests else _NOTHING
        costs = [self.cost(model, usage) for model in usage.models]
        known = [cost for cost in costs if cost is not None]
        if known and len(known) == len(costs):
            return max(known)
        missing = [
            model for model, cost in zip(usage.models, costs, strict=True) if cost is None
        ] or [""]
        for model in missing:
            self._tell(model)
        return None

    def _price(self, model: str) -> _Exact | None:
        price = self._exact.get(model)
        if price is not None:
            return price
        return next((price for begin, price in self._begins if model.startswith(begin)), None)

    def _tell(self, model: str) -> None:
        known = model in self._told
        if not known and len(self._told) >= _TOLD_MAX:
            self.unpriced["others"] += 1
            return
        self.unpriced[model] += 1
        if known:
            return
        self._told.add(model)
        _log.warning(
            "no price is known: the cost of this model's turns is not known either",
            model=model or "(the agent named none)",
            remedy=f'set [prices."{model}"], or of a name that ends in *',
        )
        if self._unknown is not None:
            self._unknown(model)


def micro_of_usd(usd: float) -> int:
    """US dollars as whole micro-USD, to the nearest; `ConfigError` if they are no amount."""
    if not (isfinite(usd) and 0 <= usd <= 1e9):
        raise ConfigError("usd", usd, "write US dollars, from 0 to 1,000,000,000")
    return whole(exact(usd) * MICRO)


def usd_of(micro: Decimal | int) -> float:
    """Micro-USD as US dollars."""
    return float(micro / Decimal(MICRO))


def whole(micro: Decimal) -> int:
    """To the nearest micro-USD, halves up."""
    return int(micro.to_integral_value(ROUND_HALF_UP))


def exact(number: float) -> Decimal:
    """The number as it was written, not as the nearest binary fraction."""
    return Decimal(repr(float(number)))
