"""A pool whose store stops answering, or answers slowly, while it ends."""

from __future__ import annotations

import asyncio

import pytest

from pool import AgentSpec
from pool.errors import StoreUnavailable
from pool.events import Event
from pool.store.base import Lease, StateChange
from pool.store.memory import MemoryStore
from pool.turn import Turn
from tests.support.agents import Held, collected, pooled, ticks, wall


def now() -> float:
    return asyncio.get_running_loop().time()


class Unplugged(MemoryStore):
    """A store that stops answering when it is told to."""

    suspends = True
    gone = False

    async def commit(
        self, lease: Lease, turn: Turn, events: object, state: StateChange | None = None
    ) -> bool:
        await asyncio.sleep(0)
        if self.gone:
            raise StoreUnavailable("the store does not answer")
        return await super().commit(lease, turn, events, state)  # type: ignore[arg-type]


async def test_a_drain_ends_although_the_store_does_not_answer() -> None:
    """Ends that cannot be stored do not keep the pool from closing: within deadline and grace."""
    agent, store = Held(), Unplugged(clock=wall)
    spec = AgentSpec(agent=agent, max=1)
    async with pooled(spec, store=store, close_deadline_s=5, cancel_grace_s=5) as pool:
        running = asyncio.create_task(pool.ask("hi"))
        queued = asyncio.create_task(pool.ask("ho"))
        await agent.until_started(1)
        store.gone = True
        await agent.let("hi")
        await asyncio.sleep(100)
        before = now()
        await pool.drain(deadline_s=20)
        assert now() <= before + 20 + 5 + 1
        reading = asyncio.create_task(collected(pool.events(next(iter(pool._turns.live)))))
        await ticks()
        before = now()
    assert now() <= before + 5 + 5 + 10
    for task in (running, queued, reading):
        with pytest.raises(StoreUnavailable):
            await task


async def test_an_end_is_stored_when_the_store_answers_again() -> None:
    """Until then nobody is told that the turn has ended."""
    agent, store = Held(), Unplugged(clock=wall)
    async with pooled(agent, store=store) as pool:
        turn = await pool.submit("hi", session="s1")
        await agent.until_started(1)
        store.gone = True
        reading = asyncio.create_task(collected(pool.events(turn.id)))
        await agent.let_all()
        await asyncio.sleep(50)
        assert not reading.done()
        store.gone = False
        assert (await pool.wait(turn.id)).state == "completed"
        events: list[Event] = await reading
        assert [event.terminal for event in events].count(True) == 1


async def test_a_turn_that_is_being_accepted_is_not_forgotten_by_a_drain() -> None:
    """A turn that the store takes while the drain begins is waited for like any other."""

    class Slow(MemoryStore):
        suspends = True

        async def accept(self, turn: Turn, **options: object):
            await asyncio.sleep(1)
            return await super().accept(turn, **options)  # type: ignore[arg-type]

    agent = Held()
    await agent.let_all()
    async with pooled(agent, store=Slow(clock=wall)) as pool:
        asked = asyncio.create_task(pool.ask("hi"))
        await ticks()
        await pool.drain(deadline_s=10)
        assert (await asked).state == "completed"
