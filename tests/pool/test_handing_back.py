"""A pool on a store that outlives it gives back what it does not finish."""

from __future__ import annotations

import asyncio

from pool import AgentSpec
from pool.store.memory import MemoryStore
from tests.support.agents import Held, pooled, wall
from tests.support.stores import View


async def test_nothing_is_started_while_turns_are_given_back() -> None:
    """Actors that become free by it take no turn that is about to be given back."""
    agent = Held()
    store = MemoryStore(clock=wall, lease_ttl_s=10.0)
    spec = AgentSpec(agent=agent, max=4, min=4)
    async with pooled(spec, store=View(store), close_deadline_s=0) as pool:
        turns = [await pool.submit(f"{n}", session=f"s{n}") for n in range(50)]
        await agent.until_started(4)
        began = asyncio.get_running_loop().time()
        await pool.drain(deadline_s=1)
        assert asyncio.get_running_loop().time() - began < 1.5
        assert len(agent.started) == 4
        assert pool.stats().turns == 0
        kept = [await store.turn(turn.id) for turn in turns]
        assert [turn.state for turn in kept if turn is not None] == ["queued"] * 50
