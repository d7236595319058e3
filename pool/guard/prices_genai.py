"""Prices from the package `genai-prices`, if it is installed.

It is no dependency: it brings pydantic and an HTTP client along, and takes about a second to load.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from importlib import import_module
from typing import Any

from pool.guard.prices import MICRO, PriceTable
from pool.turn import Usage


class GenaiPrices:
    """The prices that the package carries. `module` is the package itself."""

    def __init__(self, module: Any) -> None:
        self._module = module
        # the package walks its list of models each time; of those it lacks, too
        self._parts = lru_cache(maxsize=256)(self._look_up)

    def __repr__(self) -> str:
        return f"<GenaiPrices {self._module.__version__}>"

    def cost(self, model: str, usage: Usage) -> Decimal | None:
        """See `PriceTable.cost`. A model may be written with its provider: `openai/gpt-4o`."""
        provider, _, name = model.rpartition("/")
        if not self._parts(provider, name):
            return None
        return self._ask(provider, name, usage)

    def _look_up(self, provider: str, name: str) -> bool:
        return self._ask(provider, name, Usage()) is not None

    def _ask(self, provider: str, name: str, usage: Usage) -> Decimal | None:
        tokens = self._module.Usage(
            input_tokens=usage.input_tokens, output_tokens=usage.output_tokens
        )
        try:
            priced = self._module.calc_price(tokens, name, provider_id=provider or None)
        except LookupError:
            return None
        return Decimal(priced.total_price) * MICRO


def genai_prices() -> PriceTable | None:
    """The package's prices; None if it is not installed."""
    try:
        return GenaiPrices(import_module("genai_prices"))
    except ModuleNotFoundError as error:
        if error.name != "genai_prices":
            raise
        return None
