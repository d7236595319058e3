"""Processes that end while others go on: what they leave runs elsewhere, and nobody waits long."""

from __future__ import annotations

import asyncio

import pytest

from pool import AgentSpec
from tests.support.agents import Held
from tests.support.cautious import cautious
from tests.support.faulty import faulty


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


async def test_what_a_drain_hands_back_does_not_start_here() -> None:
    """An actor becomes free while the session is being given back: it runs elsewhere, once."""
    agent, other = Held(), Held()
    async with faulty(
        AgentSpec(agent=agent, max=1, min=1), AgentSpec(agent=other, max=1, min=1)
    ) as on:
        a, b = on.pools
        await a.submit("one", session="s1")
        await b.submit("busy", session="s3")
        await agent.until_started(1)
        await other.until_started(1)
        await asyncio.sleep(2)
        two = await a.submit("two", session="s2")
        on.views[0].delay("append", by_s=0.5)
        draining = asyncio.create_task(a.drain(deadline_s=20))
        await asyncio.sleep(0.2)
        await agent.let("one")
        await asyncio.sleep(3)
        await agent.let_all()
        await other.let_all()
        await draining
        ended = await b.wait(two.id)
        assert (ended.state, ended.attempt) == ("completed", 1)
        assert (agent.started, other.started) == (["one"], ["busy", "two"])


async def test_a_paused_turn_does_not_hold_up_a_drain() -> None:
    """Nobody else is there, and a human may take hours: it waits in the store."""
    async with faulty(cautious()) as on:
        (a,) = on.pools
        turn = await a.ask("pay", session="s1", on_disconnect="continue")
        began = now()
        await a.drain(deadline_s=60)
        assert now() - began < 5
        kept = await on.store.turn(turn.id)
        assert kept is not None
        assert kept.state == "waiting"


async def test_a_caller_of_a_turn_elsewhere_is_answered_while_its_pool_drains() -> None:
    """As long as the drain has time: the turn does not depend on this process."""
    agent, other = Held(), Held()
    async with faulty(agent, other) as on:
        a, b = on.pools
        await a.submit("one", session="s1")
        await agent.until_started(1)
        # it keeps the drain waiting
        await b.submit("local", session="x")
        asking = asyncio.create_task(b.ask("two", session="s1", on_disconnect="continue"))
        await asyncio.sleep(1)
        draining = asyncio.create_task(b.drain(deadline_s=60))
        await asyncio.sleep(5)
        await agent.let_all()
        assert (await asking).state == "completed"
        await other.let_all()
        await draining


@pytest.mark.parametrize("deadline_s", [0.0, 3.0])
async def test_a_pool_closes_in_time_while_its_store_is_away(deadline_s: float) -> None:
    """Its turns go on elsewhere when its lease is over; its callers are answered."""
    agent, other = Held(), Held()
    async with faulty(agent, other) as on:
        a, b = on.pools
        turn = await a.submit("one", session="s1")
        await agent.until_started(1)
        asking = asyncio.create_task(a.ask("two", session="s1", on_disconnect="continue"))
        await asyncio.sleep(1)
        on.views[0].cut()
        began = now()
        await a.close(deadline_s=deadline_s)
        assert now() - began <= deadline_s + a.config.cancel_grace_s + 3
        await asyncio.wait([asking], timeout=5)
        assert asking.done() and asking.exception() is not None
        await other.let_all()
        assert (await b.wait(turn.id)).state == "completed"
