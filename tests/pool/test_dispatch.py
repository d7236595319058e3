"""Who runs next, and where: late binding, affinity, fairness, priorities, deadlines."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from pool import AgentSpec
from pool.errors import Overloaded, TenantQueueFull
from pool.turn import Principal, Priority
from tests.support.agents import Held, pooled, ticks


class Numbered:
    """An agent that answers with the number of its instance."""

    count = 0

    def __init__(self) -> None:
        Numbered.count += 1
        self.number = Numbered.count

    async def __call__(self, text: str) -> str:
        await asyncio.sleep(float(text))
        return str(self.number)


def tenant(name: str) -> Principal:
    return Principal(name)


async def test_a_turn_goes_to_whichever_actor_is_free_first() -> None:
    """Bound late: a turn does not wait behind a long one while another actor is free."""
    agent = Held()
    async with pooled(AgentSpec(agent=agent, min=2, max=2)) as pool:
        await ticks()
        for text in ("long", "short", "third"):
            await pool.submit(text)
        await agent.until_started(2)
        await agent.let("short")
        await agent.until_started(3)
        assert sorted(agent.running) == ["long", "third"]
        await agent.let_all()


async def test_a_session_goes_back_to_the_actor_that_served_it_last() -> None:
    """Soft affinity: the idle actor that is warm for the session is preferred over warmer ones."""
    async with pooled(AgentSpec(agent=lambda: Numbered(), min=3, max=3)) as pool:
        await ticks()
        first = await asyncio.gather(*[pool.ask("1", session=f"s{n}") for n in range(3)])
        for _ in range(3):
            for n in (0, 2, 1):
                assert (await pool.ask("1", session=f"s{n}")).output == first[n].output


async def test_affinity_is_soft() -> None:
    """A session whose actor is busy is served by another one."""
    async with pooled(AgentSpec(agent=lambda: Numbered(), min=2, max=2)) as pool:
        await ticks()
        warm = (await pool.ask("0", session="s1")).output
        other = asyncio.create_task(pool.ask("5"))
        await ticks()
        busy = asyncio.create_task(pool.ask("5", session="s1"))
        assert {(await other).output, (await busy).output} == {warm, (await busy).output}
        assert (await other).output != (await busy).output


async def test_without_affinity_the_most_recently_idle_actor_is_taken() -> None:
    """New sessions go to the actor that rested last, so that the others may cool and be retired."""
    async with pooled(AgentSpec(agent=lambda: Numbered(), min=3, max=3)) as pool:
        await ticks()
        _, _, last = await asyncio.gather(pool.ask("1"), pool.ask("2"), pool.ask("3"))
        assert {(await pool.ask("0")).output for _ in range(5)} == {last.output}


async def test_tenants_with_equal_backlogs_are_served_equally() -> None:
    """At any moment the turns served of k tenants with equal backlogs differ by at most one."""
    served: Counter[str] = Counter()
    names = [f"t{n}" for n in range(5)]

    async def agent(text: str) -> str:
        served[text] += 1
        assert max(served.values()) - min(served[name] for name in names) <= 1
        await asyncio.sleep(1)
        return text

    async with pooled(AgentSpec(agent=agent, max=1)) as pool:
        await pool.resize("agent", max=1)
        block = await pool.submit("t0", principal=tenant("other"))
        await asyncio.sleep(0)
        served.clear()
        turns = [
            await pool.submit(name, principal=tenant(name)) for name in names for _ in range(20)
        ]
        await pool.wait(block.id, principal=tenant("other"))
        served.clear()
        for turn in turns:
            await pool.wait(turn.id, principal=tenant(turn.tenant))
        assert set(served.values()) <= {19, 20}


async def test_a_tenant_of_weight_two_is_served_twice_as_often() -> None:
    """Weights set the shares of tenants that all have a backlog."""
    order: list[str] = []

    async def agent(text: str) -> str:
        order.append(text)
        await asyncio.sleep(1)
        return text

    async with pooled(AgentSpec(agent=agent, max=1), tenant_weights={"big": 2.0}) as pool:
        await pool.submit("first")
        await asyncio.sleep(0.5)
        turns = [
            await pool.submit(name, principal=tenant(name))
            for name in ("small", "big")
            for _ in range(12)
        ]
        for turn in turns:
            await pool.wait(turn.id, principal=tenant(turn.tenant))
        assert Counter(order[1:13]) == {"big": 8, "small": 4}


async def test_priorities_order_the_turns_of_a_tenant() -> None:
    """Of one tenant's waiting turns the interactive go first, then default, then batch."""
    agent = Held()
    async with pooled(AgentSpec(agent=agent, max=1)) as pool:
        await pool.submit("first")
        await agent.until_started(1)
        kinds: tuple[Priority, ...] = ("batch", "default", "interactive")
        for n in (1, 2):
            for kind in kinds:
                await pool.submit(f"{kind} {n}", priority=kind)
        await agent.let_all()
        await agent.until_started(7)
        expected = [f"{kind} {n}" for kind in reversed(kinds) for n in (1, 2)]
        assert agent.started[1:] == expected


async def test_the_queue_stays_within_its_cap() -> None:
    """Of many turns only `queue_max` wait besides those that run; the others are refused."""
    agent = Held()
    async with pooled(AgentSpec(agent=agent, max=1), queue_max=10) as pool:
        await ticks()
        refused = 0
        for n in range(40):
            try:
                await pool.submit(str(n), session=f"s{n % 3}")
            except Overloaded:
                refused += 1
            assert pool.stats().agents[0].waiting <= 10
        assert refused == 40 - 11
        await agent.let_all()


async def test_a_tenant_has_at_most_its_share_of_the_queue() -> None:
    """It counts waiting turns, those behind a busy session too; others are not concerned."""
    agent = Held()
    async with pooled(AgentSpec(agent=agent, max=1), queue_max=10, tenant_share=0.4) as pool:
        await ticks()
        for n in range(5):
            await pool.submit(str(n), session=f"s{n % 2}", principal=tenant("greedy"))
        with pytest.raises(TenantQueueFull) as refused:
            await pool.submit("one more", principal=tenant("greedy"))
        assert refused.value.code == "tenant_queue_full"
        for n in range(4):
            await pool.submit(f"mine {n}", principal=tenant("modest"))
        # a place that becomes free can be taken again
        await agent.let("0")
        await agent.until_started(2)
        await pool.submit("one more", principal=tenant("greedy"))
        await agent.let_all()


@pytest.mark.parametrize("actors", [1, 2])
async def test_no_turn_starts_after_its_deadline(actors: int) -> None:
    """Not even when the loop stood still, so that the actor rests before the timer rings."""
    started: list[str] = []
    loop = asyncio.get_running_loop()

    async def agent(text: str) -> str:
        started.append(text)
        if text == "blocks":
            await asyncio.sleep(1)
            loop._now_s += 10  # type: ignore[attr-defined]
        return text

    async with pooled(AgentSpec(agent=agent, min=actors, max=actors)) as pool:
        await ticks()
        blocks = await pool.submit("blocks", session="s1")
        late = [await pool.submit("behind", session="s1", deadline_s=5)]
        if actors == 1:
            late.append(await pool.submit("queued", deadline_s=5))
        for turn in late:
            ended = await pool.wait(turn.id)
            assert (ended.state, ended.attempt) == ("expired", 0)
        assert (await pool.wait(blocks.id)).state == "completed"
        assert started == ["blocks"]
        stats = pool.stats().agents[0]
        assert (stats.queued, stats.waiting, stats.limit.held) == (0, 0, 0)


async def test_a_turn_whose_caller_left_is_never_started() -> None:
    """`ask` that is cancelled while its turn waits takes the turn out of the queue."""
    agent = Held()
    async with pooled(AgentSpec(agent=agent, max=1)) as pool:
        await pool.submit("first")
        leaving = asyncio.create_task(pool.ask("left", session="s1"))
        await agent.until_started(1)
        leaving.cancel()
        await asyncio.wait([leaving])
        last = await pool.submit("last")
        await agent.let_all()
        await pool.wait(last.id)
        assert agent.started == ["first", "last"]
        # it was taken back: the transcript does not know of it
        assert (await pool.messages("s1")).items == []
