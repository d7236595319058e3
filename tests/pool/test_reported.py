"""What agents report of what they used: anything, so it is checked before it is believed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pool.agent import Context, TurnEnd, TurnInput
from pool.errors import AgentFailed
from pool.events import UsageReported
from pool.guard.ledger import CostConfig
from pool.guard.prices import Price
from pool.reported import total
from pool.turn import Usage
from tests.support.agents import Scripted, pooled

COST = CostConfig(prices={"m": Price(input=1, output=1)})
GOOD: dict[str, Any] = {"input_tokens": 1, "requests": 1, "models": ("m",)}


@pytest.mark.parametrize(
    "flaw",
    [
        {"input_tokens": None},
        {"input_tokens": 12.0},
        {"output_tokens": True},
        {"requests": "1"},
        {"models": ["m"]},
        {"models": (None,)},
        {"cost_usd": "0.1"},
        {"cost_usd": Decimal("0.1")},
        {"cost_usd": float("nan")},
    ],
    ids=repr,
)
async def test_what_cannot_be_usage_fails_the_turn_alone(flaw: dict[str, Any]) -> None:
    """Its actor goes on, its session too, and what others used is counted."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        await ctx.emit(UsageReported(Usage(**(GOOD | (flaw if turn.input == "bad" else {})))))
        return TurnEnd(output="said")

    async with pooled(Scripted(run), cost=COST) as pool:
        with pytest.raises(AgentFailed, match="usage"):
            await pool.ask("bad", session="s1")
        assert (await pool.ask("good", session="s1")).usage.cost_usd == 0.000001
        await pool.ledger.batch.write()
        today = pool.ledger.usage.today()
        (group,) = await pool.ledger.usage.query(today, today, ())
    assert group.totals.turns == 2


async def test_usage_is_a_usage() -> None:
    """Not something that has the same fields."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        await ctx.emit(UsageReported({"input_tokens": 1}))  # type: ignore[arg-type]
        return TurnEnd(output="said")

    async with pooled(Scripted(run)) as pool:
        with pytest.raises(AgentFailed, match="it must be a Usage"):
            await pool.ask("x")


def test_attempts_are_added_up() -> None:
    """Counts and known costs; of costs that are not both known nobody knows the sum."""
    first = Usage(1, 2, 3, cost_usd=0.5, models=("a", "b"))
    second = Usage(10, 20, 30, cost_usd=0.25, models=("b", "c"))
    assert total(first, second) == Usage(11, 22, 33, cost_usd=0.75, models=("a", "b", "c"))
    assert total(first, Usage(1)).cost_usd is None
    assert total(Usage(), second) is second


def test_a_cost_without_tokens_is_added_up() -> None:
    """An agent may say what it cost and nothing else."""
    assert total(Usage(cost_usd=0.5), Usage(cost_usd=0.25)).cost_usd == 0.75
    assert total(Usage(cost_usd=0.0), Usage(1)).cost_usd is None
