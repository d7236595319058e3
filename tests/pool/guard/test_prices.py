"""Prices: exact, overridable, and never nothing for want of one."""

from __future__ import annotations

import sys
from decimal import Decimal
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pool.errors import ConfigError
from pool.guard.prices import Price, Prices, exact, micro_of_usd, usd_of, whole
from pool.guard.prices_genai import GenaiPrices, genai_prices
from pool.turn import Usage

SMALL = Price(input=0.15, output=0.6)
BIG = Price(input=3, output=15)


def used(*models: str, tokens: tuple[int, int] = (1_000, 100)) -> Usage:
    return Usage(input_tokens=tokens[0], output_tokens=tokens[1], requests=1, models=models)


def test_a_price_for_a_million_tokens_is_exact() -> None:
    """A tenth of a cent has no rounding error of binary fractions."""
    assert Prices({"small": SMALL}).cost("small", used("small")) == Decimal("210.0")


def test_the_longest_beginning_wins_over_shorter_ones() -> None:
    """A name that ends in a star stands for all that begin so; an exact name comes first."""
    middle = Price(input=1, output=1)
    prices = Prices({"gpt-*": BIG, "gpt-mini-*": middle, "gpt-mini-1": SMALL})

    assert prices.cost("gpt-4", used()) == 4_500
    assert prices.cost("gpt-mini-2", used()) == 1_100
    assert prices.cost("gpt-mini-1", used()) == 210
    assert prices.cost("other", used()) is None


def test_an_unknown_price_is_told_once_and_counted_each_time() -> None:
    """The cost is None, and whoever listens hears of each model once."""
    heard: list[str] = []
    prices = Prices({"small": SMALL}, unknown=heard.append)

    assert prices.cost_of(used("new")) is None
    assert prices.cost_of(used("small", "new")) is None
    assert prices.cost_of(used()) is None

    assert heard == ["new", ""]
    assert prices.unpriced == {"new": 2, "": 1}
    assert repr(prices) == "<Prices [1 of the configuration, 2 models unknown]>"


def test_unknown_models_without_end_take_no_memory() -> None:
    """Past a thousand names they are counted together."""
    prices = Prices()

    for number in range(1_500):
        prices.cost_of(used(f"m{number}"))

    assert len(prices.unpriced) == 1_001
    assert prices.unpriced["others"] == 500


def test_a_turn_of_several_models_is_charged_as_of_the_dearest() -> None:
    """What it used does not say how much went to which."""
    assert Prices({"small": SMALL, "big": BIG}).cost_of(used("small", "big")) == 4_500


def test_a_turn_without_a_model_costs_nothing() -> None:
    """Its agent needs no price."""
    prices = Prices()

    assert prices.cost_of(Usage(models=("new",))) == 0
    assert not prices.unpriced


def test_tokens_that_nobody_reports_are_not_free() -> None:
    """A provider that was asked, and says nothing of tokens, was not for nothing: it is not known
    what that cost, whatever the model's price is.
    """
    prices = Prices({"m": Price(input=1, output=2)})

    assert prices.cost_of(Usage(requests=3, models=("m",))) is None
    assert not prices.unpriced


@pytest.mark.parametrize("field", ["input", "output"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_price_that_is_none_is_refused(field: str, value: float) -> None:
    """The error names the option."""
    with pytest.raises(ConfigError, match=f"^{field} = "):
        Price(**{"input": 1.0, "output": 1.0} | {field: value})


def test_dollars_and_their_millionths_are_the_same() -> None:
    """To the nearest millionth, halves up."""
    assert micro_of_usd(0.01) == 10_000
    assert micro_of_usd(0.0000005) == 1
    assert usd_of(1_234_567) == 1.234567
    assert whole(Decimal("2.5")) == 3
    assert exact(0.1) == Decimal("0.1")
    for wrong in (-0.1, float("nan"), 1e10):
        with pytest.raises(ConfigError):
            micro_of_usd(wrong)


# --- the package genai-prices, which is not installed here


def _package() -> Any:
    """A stand-in with the package's interface: it knows one model, of one provider."""

    def calc_price(usage: Any, model_ref: str, *, provider_id: str | None) -> Any:
        if model_ref != "known" or provider_id not in (None, "maker"):
            raise LookupError(model_ref)
        return SimpleNamespace(total_price=Decimal(usage.input_tokens + usage.output_tokens))

    package: Any = ModuleType("genai_prices")
    package.__version__ = "0"
    package.Usage = SimpleNamespace
    package.calc_price = calc_price
    return package


def test_a_package_of_prices_is_asked_last() -> None:
    """What the configuration says comes first; what neither knows is unknown."""
    prices = Prices({"mine": SMALL}, table=GenaiPrices(_package()))

    assert prices.cost("mine", used()) == 210
    assert prices.cost("known", used()) == 1_100_000_000
    assert prices.cost("maker/known", used()) == 1_100_000_000
    assert prices.cost("other/known", used()) is None
    assert prices.cost("unknown", used()) is None


def test_the_package_is_used_if_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is installed is seen when prices are wanted."""
    monkeypatch.setitem(sys.modules, "genai_prices", _package())
    assert repr(genai_prices()) == "<GenaiPrices 0>"

    monkeypatch.setitem(sys.modules, "genai_prices", None)
    assert genai_prices() is None


def test_a_package_that_is_broken_is_not_taken_for_one_that_is_absent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """If something that it needs is missing, its operator is to know."""
    (tmp_path / "genai_prices.py").write_text("import pool_of_nothing\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "genai_prices", raising=False)

    with pytest.raises(ModuleNotFoundError, match="pool_of_nothing"):
        genai_prices()
