"""How many actors there are: up at once, down slowly, within the limits, following the provider."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from pool import AgentPool, AgentSpec, Context, TurnEnd, TurnInput
from pool.errors import InvalidRequest, NotFound
from pool.observer import ActorStartedNotice, ActorStoppedNotice, ScaledNotice
from pool.stats import AgentStats
from tests.support.agents import Held, Notices, pooled, ticks


def stats(pool: AgentPool, n: int = 0) -> AgentStats:
    return pool.stats().agents[n]


def live(pool: AgentPool) -> int:
    actors = stats(pool).actors
    return actors.idle + actors.busy + actors.starting


class Slow:
    """An agent that takes a second to open."""

    state_format = ""

    def __init__(self, agent: Held) -> None:
        self.agent = agent

    async def open(self) -> None:
        await asyncio.sleep(1)

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        return TurnEnd(output=await self.agent(turn.input))

    async def close(self) -> None:
        """Nothing to close."""


async def test_actors_are_started_at_once_when_they_are_wanted() -> None:
    """A burst is met by as many actors as it needs, without waiting for a tick."""
    agent = Held()
    async with pooled(AgentSpec(agent=agent, max=8), start_limit=8, tick_s=1_000) as pool:
        for n in range(8):
            await pool.submit(str(n))
        await ticks()
        assert len(agent.running) == 8
        await agent.let_all()


async def test_only_so_many_start_together() -> None:
    """At most `start_limit` actors are starting; the next start when these are open."""
    agent = Held()
    async with pooled(AgentSpec(agent=lambda: Slow(agent), max=10), start_limit=3) as pool:
        for n in range(10):
            await pool.submit(str(n))
        for open_before in (0, 3, 6, 9):
            actors = stats(pool).actors
            assert (actors.busy, actors.starting) == (open_before, min(3, 10 - open_before))
            await asyncio.sleep(1.001)
        assert len(agent.running) == 10
        await agent.let_all()


async def test_idle_actors_retire_coldest_first_after_the_hold() -> None:
    """What was wanted within `scale_down_hold_s` is kept; then the coldest go, to `min`."""
    agent, notices = Held(), Notices()
    spec = AgentSpec(agent=agent, min=1, max=5)
    async with pooled(spec, observers=[notices], start_limit=5, scale_down_hold_s=60) as pool:
        turns = [await pool.submit(str(n)) for n in range(5)]
        await agent.until_started(5)
        for turn in turns:
            await agent.let(turn.input)
            await pool.wait(turn.id)
        await asyncio.sleep(50)
        assert stats(pool).actors.idle == 5
        await asyncio.sleep(20)
        assert stats(pool).actors.idle == 1
        stopped = [(n.actor, n.reason) for n in notices.of(ActorStoppedNotice)]
        assert stopped == [(f"Held-{n}", "retired") for n in range(1, 5)]
        assert live(pool) == 1


async def test_it_scales_down_towards_the_largest_want_of_the_hold() -> None:
    """A second, smaller burst within the hold keeps as many actors as it wanted."""
    agent = Held()
    spec = AgentSpec(agent=agent, min=0, max=8)
    async with pooled(spec, start_limit=8, scale_down_hold_s=60) as pool:
        for n in range(8):
            await pool.submit(f"first {n}")
        await agent.until_started(8)
        await agent.let(*[f"first {n}" for n in range(8)])
        await asyncio.sleep(40)
        for n in range(3):
            await pool.submit(f"second {n}")
        await asyncio.sleep(5)
        await agent.let_all()
        assert live(pool) == 8
        # the first burst has left the hold: 3 turns wanted ceil(3 / 0.8) actors
        await asyncio.sleep(30)
        assert live(pool) == 4
        await asyncio.sleep(40)
        assert live(pool) == 0


async def test_short_bursts_keep_their_actors() -> None:
    """What was busy between two ticks counts, though nothing is busy at the ticks."""

    async def agent(text: str) -> str:
        await asyncio.sleep(0.1)
        return text

    spec = AgentSpec(agent=agent, max=5)
    async with pooled({"a": spec}, start_limit=5, scale_down_hold_s=60) as pool:
        for _ in range(40):
            await asyncio.gather(*[pool.ask(str(n)) for n in range(5)])
            await asyncio.sleep(9.5)
            assert live(pool) == 5
        assert stats(pool).stopped == {}


async def test_a_busy_actor_is_never_stopped_to_scale_down() -> None:
    """However few are wanted, a turn in work is left alone."""
    agent = Held()
    async with pooled(AgentSpec(agent=agent, max=4), start_limit=4, scale_down_hold_s=5) as pool:
        turns = [await pool.submit(str(n)) for n in range(4)]
        await agent.until_started(4)
        await pool.resize("Held", min=0, max=1)
        await asyncio.sleep(100)
        assert len(agent.running) == 4 and agent.cancelled == []
        await agent.let_all()
        for turn in turns:
            assert (await pool.wait(turn.id)).state == "completed"
        await asyncio.sleep(10)
        assert live(pool) <= 1


async def test_there_are_never_more_than_max_nor_fewer_than_min() -> None:
    """min <= live + starting <= max at every moment of a restless hour."""
    random = Random(3)

    async def agent(text: str) -> str:
        await asyncio.sleep(random.expovariate(0.2))
        if random.random() < 0.02:
            raise SystemExit
        return text

    spec = AgentSpec(agent=agent, min=2, max=6)
    async with pooled(spec, scale_down_hold_s=30, restarts_max=1_000) as pool:
        await ticks()
        for n in range(1_500):
            await pool.submit(str(n), deadline_s=80_000)
            await asyncio.sleep(random.expovariate(0.5))
            assert live(pool) <= 6
            # a crashed actor is replaced after its backoff, of at most 30 s
            if not stats(pool).stopped.get("crashed"):
                assert live(pool) >= 2
        await pool.drain(deadline_s=1_000)
        await asyncio.sleep(120)
        assert live(pool) == 2


async def test_a_pool_can_be_resized_while_it_is_busy() -> None:
    """Up: waiting turns start at once. Down: the surplus retires as soon as it is idle."""
    agent = Held()
    async with pooled(AgentSpec(agent=agent, max=1), start_limit=10) as pool:
        for n in range(6):
            await pool.submit(str(n))
        await agent.until_started(1)
        await pool.resize("Held", max=4)
        await agent.until_started(4)
        assert (stats(pool).max, stats(pool).limit.total, len(agent.running)) == (4, 4, 4)
        await pool.resize("Held", max=2)
        await agent.let("0", "1", "2")
        await ticks()
        assert len(agent.running) <= 2
        await agent.let_all()
        await asyncio.sleep(2)
        assert live(pool) <= 2
        await pool.resize("Held", min=2)
        await ticks()
        assert live(pool) == 2


async def test_it_shrinks_under_constant_load() -> None:
    """Actors above a lowered `max` retire although the queue is never empty."""

    async def agent(text: str) -> str:
        await asyncio.sleep(1)
        return text

    async with pooled({"a": AgentSpec(agent=agent, max=4)}, start_limit=4) as pool:
        for n in range(200):
            await pool.submit(str(n))
        await asyncio.sleep(2.5)
        assert live(pool) == 4
        await pool.resize("a", max=2)
        await asyncio.sleep(5)
        assert stats(pool).queued > 0 and live(pool) == 2


async def test_a_resize_that_makes_no_sense_is_refused() -> None:
    """`min` above `max`, a `max` of nothing, an unknown agent."""
    async with pooled({"a": AgentSpec(agent=Held(), max=4)}) as pool:
        for least, most in ((5, None), (-1, None), (None, 0), (3, 2)):
            with pytest.raises(InvalidRequest):
                await pool.resize("a", min=least, max=most)
        with pytest.raises(NotFound):
            await pool.resize("b", max=1)
        assert (stats(pool).min, stats(pool).max) == (1, 4)


async def test_observers_hear_of_scaling() -> None:
    """What is wanted, and each actor that opens."""
    agent, notices = Held(), Notices()
    async with pooled(AgentSpec(agent=agent, max=4), observers=[notices], start_limit=4) as pool:
        await agent.let_all()
        await asyncio.gather(*[pool.ask(str(n)) for n in range(4)])
        scaled = notices.of(ScaledNotice)
        assert scaled[0].before == 1 and scaled[-1].after == 4
        assert {n.actor for n in notices.of(ActorStartedNotice)} == {
            f"Held-{n}" for n in range(1, 5)
        }
