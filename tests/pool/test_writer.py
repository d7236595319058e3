"""When events go to the store while turns run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pool import AgentSpec
from pool.store.memory import MemoryStore
from tests.support.agents import pooled, wall
from tests.support.stores import FailingStore, View


def shared_store() -> FailingStore:
    return FailingStore(View(MemoryStore(clock=wall)))


async def sleeps(text: str) -> str:
    await asyncio.sleep(float(text))
    return "done"


async def talks(text: str) -> AsyncIterator[str]:
    for _ in range(200):
        yield text
        await asyncio.sleep(0.01)


async def test_a_turn_that_is_soon_over_is_stored_with_its_end() -> None:
    """Whenever it falls: turns of 30 ms, one after the other, are accepted and committed only."""
    store = shared_store()
    async with pooled(AgentSpec(agent=sleeps), store=store) as pool:
        for n in range(50):
            await pool.ask("0.03", session=f"s{n % 7}")
        assert store.calls.count("commit") == 50
        assert store.calls.count("append") == 0


async def test_what_a_long_turn_says_is_stored_within_a_quarter_of_a_second() -> None:
    """Once, if it says nothing more."""
    store = shared_store()
    async with pooled(AgentSpec(agent=sleeps), store=store) as pool:
        turn = await pool.submit("5", session="s1")
        await asyncio.sleep(0.26)
        assert store.calls.count("append") == 1
        await pool.wait(turn.id)
        assert store.calls.count("append") == 1


async def test_a_turn_that_keeps_talking_is_stored_four_times_a_second() -> None:
    """Not with each word, and no less often because it never pauses."""
    store = shared_store()
    async with pooled(AgentSpec(agent=talks), store=store) as pool:
        await pool.ask("word ", session="s1")
        assert 7 <= store.calls.count("append") <= 9


async def test_a_store_that_is_back_gets_everything_at_once() -> None:
    """A write that failed long ago holds up nobody: all sessions are stored within their delay."""
    store = shared_store()
    async with pooled(AgentSpec(agent=sleeps, max=50), store=store) as pool:
        store.fail("append", times=1)
        await pool.submit("60", session="first")
        await asyncio.sleep(5)
        before = store.calls.count("append")
        for n in range(20):
            await pool.submit("60", session=f"s{n}")
        await asyncio.sleep(0.26)
        assert store.calls.count("append") == before + 20
        await pool.drain(deadline_s=0)
