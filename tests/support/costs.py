"""Agents that use tokens, and what pools of tests are told of prices, budgets and limits."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final

from pool import AgentPool
from pool.agent import Context, TurnEnd, TurnInput
from pool.events import UsageReported
from pool.guard.budget import Budget
from pool.guard.ledger import CostConfig
from pool.guard.prices import Price
from pool.turn import Usage
from tests.support.agents import Scripted

# 100 tokens of it are 0.001 USD
MODEL: Final = "m"
TOKENS: Final = 100
USD: Final = 0.001
PRICES: Final = {MODEL: Price(input=10, output=10)}


def spender(model: str = MODEL) -> Scripted:
    """An agent that uses 100 tokens of a model in each turn."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        await ctx.emit(UsageReported(Usage(input_tokens=TOKENS, requests=1, models=(model,))))
        return TurnEnd(output="said")

    return Scripted(run)


def costs(*budgets: Budget, **options: Any) -> dict[str, CostConfig]:
    """What a pool is told, as options of it."""
    return {"cost": CostConfig(prices=PRICES, budgets=budgets, **options)}


async def counted(pool: AgentPool, turns: int) -> None:
    """Until so many turns that have ended are in the usage of the day, and in the budgets."""
    ledger = pool.ledger
    while True:
        await ledger.batch.write()
        today = ledger.usage.today()
        found = await ledger.usage.query(today - timedelta(days=1), today, ())
        if found and found[0].totals.turns >= turns:
            return
        await asyncio.sleep(0)
