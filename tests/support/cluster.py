"""Several pools on one memory store, each as if in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from pool import AgentPool, PoolConfig
from pool.events import Event
from pool.guard.ledger import CostConfig
from pool.store.memory import MemoryStore
from tests.support.agents import wall
from tests.support.stores import View

V = TypeVar("V", bound=View)

LEASE_S = 10.0
# On the loop's clock: a test that takes longer waits for something that never comes.
CAP_S = 2_000.0


class Cluster(Generic[V]):
    """Pools on one store, each with a view of its own."""

    def __init__(self, store: MemoryStore, pools: list[AgentPool], views: list[V]) -> None:
        self.store = store
        self.pools = pools
        self.views = views


@asynccontextmanager
async def cluster(*agents: Any, **config: Any) -> AsyncIterator[Cluster[View]]:
    """A pool for each of the agents, on one store; they have seen each other."""
    async with clustered(View, *agents, **config) as on:
        yield on


@asynccontextmanager
async def clustered(
    view: Callable[[MemoryStore], V],
    *agents: Any,
    cost: CostConfig | None = None,
    **config: Any,
) -> AsyncIterator[Cluster[V]]:
    """The same, with views of this kind. In place of an agent there may be several, by name."""
    store = MemoryStore(clock=wall, lease_ttl_s=LEASE_S)
    views = [view(store) for _ in agents]
    pools = [
        AgentPool(
            agent if isinstance(agent, Mapping) else {"a": agent},
            store=view,
            name=f"replica-{number}",
            config=PoolConfig(**{"watchdog_s": 0.0, "close_deadline_s": 0.0, **config}),
            seed=number,
            cost=cost,
            wall=wall,
        )
        for number, (agent, view) in enumerate(zip(agents, views, strict=True))
    ]
    async with asyncio.timeout(CAP_S):
        for pool in pools:
            await pool.open()
        await asyncio.sleep(2)
        yield Cluster(store, pools, views)
        for pool in pools:
            await pool.close()


async def read_into(seen: list[Event], pool: AgentPool, turn_id: str) -> None:
    """Read a turn to its end, one event after the other: others look at what was seen so far."""
    async for event in pool.events(turn_id):
        seen.append(event)  # noqa: PERF401
