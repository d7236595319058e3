"""Turns that spend, and a store whose time can be turned."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Final

from pool.errors import BudgetExceeded
from pool.guard.budget import Budget
from pool.guard.budgets import BudgetNotice, Budgets, Spent
from pool.store.base import Store
from pool.store.memory import MemoryStore
from pool.turn import Turn, TurnRequest, Usage

# 12:00 on Saturday, 21 November 2026
NOON: Final = 1_795_262_400.0

_numbers = count(1)


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def memory(clock: Callable[[], float]) -> MemoryStore:
    """A memory store that goes by this clock."""
    return MemoryStore(clock=clock)


def a_turn(
    *,
    tenant: str = "acme",
    user: str = "ann",
    agent: str = "helper",
    at: float = NOON,
    deadline_s: float = 600,
    usage: Usage | None = None,
) -> Turn:
    """A turn that has not been accepted, or has used something."""
    return Turn(
        id=f"t{next(_numbers)}",
        tenant=tenant,
        user=user,
        session_id="s1",
        agent=agent,
        request=TurnRequest(input="hello", deadline_s=deadline_s),
        created_at=at,
        usage=usage or Usage(),
    )


class Spenders:
    """Processes that spend from the same budgets, and what became of their turns."""

    def __init__(self, store: Store, budgets: list[Budget], clock: Callable[[], float]) -> None:
        self.notices: list[BudgetNotice] = []
        self.processes = [
            Budgets(budgets, counters=store, wall=clock, listener=self.notices.append)
            for _ in range(2)
        ]
        self.ran = 0
        self.refused = 0
        self.spent = 0

    async def spend(self, number: int, tokens: int, at: float = NOON) -> None:
        """Run a turn in one of the processes that spends so many tokens, if it is let."""
        process, turn = self.processes[number % 2], a_turn(at=at)
        try:
            grant = await process.reserve(turn)
        except BudgetExceeded:
            self.refused += 1
            return
        self.ran += 1
        await asyncio.sleep(0)
        self.spent += tokens
        await process.settle(grant, Spent(tokens, None), turn.agent)
