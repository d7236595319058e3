"""Admission end to end: who is refused, when to come back, and that a refusal leaves nothing."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from pool import AgentPool, AgentSpec, PoolConfig
from pool.errors import AgentDegraded, Draining, Overloaded, TenantQueueFull
from pool.observer import AgentStateNotice, TurnRefusedNotice
from pool.stats import AgentStats
from pool.turn import Principal, Priority
from tests.support.agents import Held, Notices, Unopenable, pooled, ticks


def stats(pool: AgentPool) -> AgentStats:
    return pool.stats().agents[0]


async def timed(text: str) -> str:
    await asyncio.sleep(float(text))
    return text


async def warm(pool: AgentPool, hold_s: float) -> None:
    """Teach the pool how long a turn holds its actor."""
    await pool.ask(str(hold_s))
    assert stats(pool).mean_hold_s == pytest.approx(hold_s)


async def test_a_refused_turn_touches_nothing() -> None:
    """No actor, no session, no turn, no place in the queue, no key: as if it had not been asked."""
    agent, notices = Held(), Notices()
    async with pooled(AgentSpec(agent=agent, max=1), queue_max=1, observers=[notices]) as pool:
        await ticks()
        await pool.submit("one")
        await pool.submit("two")
        before = pool.stats()
        sessions = len((await pool.sessions()).items)
        with pytest.raises(Overloaded):
            await pool.submit("three", session="s3", idempotency_key="k")
        assert pool.stats().turns == before.turns
        assert (stats(pool).queued, stats(pool).waiting) == (1, 1)
        assert len((await pool.sessions()).items) == sessions
        assert await pool.store.find_key(pool._key("s3", Principal()), "k") is None
        refused = notices.of(TurnRefusedNotice)
        assert [(n.agent, n.code, n.tenant) for n in refused] == [("Held", "overloaded", "default")]
        assert stats(pool).refused == {"overloaded": 1}
        await agent.let_all()


async def test_everything_is_taken_until_the_first_turn_has_ended() -> None:
    """With no experience of how long turns take, deadlines refuse nobody."""
    agent = Held()
    async with pooled(AgentSpec(agent=agent, max=1)) as pool:
        for n in range(50):
            await pool.submit(str(n), deadline_s=0.5)
        assert stats(pool).refused == {}


async def test_a_turn_that_would_miss_its_deadline_is_refused_with_the_time_to_wait() -> None:
    """`retry_after_s` is the estimated wait less the deadline; one with enough time is taken."""
    async with pooled({"a": AgentSpec(agent=timed, max=1)}) as pool:
        await warm(pool, 10)
        await pool.submit("10")
        await pool.submit("10")
        assert stats(pool).estimated_wait_s == pytest.approx(20)
        with pytest.raises(Overloaded) as refused:
            await pool.submit("10", deadline_s=15)
        assert refused.value.retry_after_s == pytest.approx(5)
        assert refused.value.retryable
        with pytest.raises(Overloaded):
            await pool.submit("10", deadline_s=29)
        await pool.submit("10", deadline_s=31)


async def test_an_idle_actor_takes_any_turn() -> None:
    """While an actor is idle, or can start at once, a short deadline is no reason to refuse."""
    async with pooled({"a": AgentSpec(agent=timed, max=3)}) as pool:
        await warm(pool, 10)
        for _ in range(3):
            await pool.submit("10", deadline_s=1)
        with pytest.raises(Overloaded):
            await pool.submit("10", deadline_s=1)


async def test_the_wait_for_ones_own_session_counts() -> None:
    """A turn behind others of its session is refused although actors are idle."""
    async with pooled({"a": AgentSpec(agent=timed, min=4, max=4)}) as pool:
        await warm(pool, 10)
        await pool.submit("10", session="s1")
        await pool.submit("10", session="s1")
        with pytest.raises(Overloaded):
            await pool.submit("10", session="s1", deadline_s=25)
        await pool.submit("10", session="s1", deadline_s=31)
        await pool.submit("10", session="s1", deadline_s=25, if_busy="interrupt")


async def test_a_full_share_is_the_tenants_own_affair() -> None:
    """429 for the tenant whose share is used up, with a time; other tenants go on."""
    async with pooled({"a": AgentSpec(agent=timed, max=1)}, queue_max=4, tenant_share=0.5) as pool:
        await warm(pool, 8)
        greedy, other = Principal("greedy"), Principal("other")
        for _ in range(3):
            await pool.submit("8", principal=greedy)
        with pytest.raises(TenantQueueFull) as refused:
            await pool.submit("8", principal=greedy)
        assert refused.value.retry_after_s == pytest.approx(8)
        await pool.submit("8", principal=other)
        await pool.submit("8", principal=other)
        with pytest.raises(Overloaded, match="full"):
            await pool.submit("8", principal=Principal("third"))


async def test_standing_overload_sheds_batch_then_default_never_interactive() -> None:
    """While even the smallest wait is long, low priorities are refused, one more a window."""
    kinds: tuple[Priority, ...] = ("batch", "default", "interactive")
    async with pooled(
        {"a": AgentSpec(agent=timed, max=1)}, overload_wait_s=1, overload_window_s=10
    ) as pool:
        shed: list[tuple[str, ...]] = []
        for _ in range(60):
            await pool.submit("1", priority="interactive", deadline_s=80_000)
            for kind in kinds:
                try:
                    await pool.submit("1", priority=kind, deadline_s=80_000)
                    assert kind not in stats(pool).shedding
                except Overloaded:
                    assert kind in stats(pool).shedding
            if not shed or shed[-1] != stats(pool).shedding:
                shed.append(stats(pool).shedding)
            await asyncio.sleep(1)
        assert shed == [(), ("batch",), ("default", "batch")]
        await pool.drain(deadline_s=0)


async def test_shedding_ends_when_the_queue_empties() -> None:
    """One good window is enough to take everything again."""
    async with pooled(
        {"a": AgentSpec(agent=timed, max=1)}, overload_wait_s=1, overload_window_s=10
    ) as pool:
        turns = [await pool.submit("1", deadline_s=1_000) for _ in range(30)]
        for _ in range(2):
            await asyncio.sleep(11)
            turns.append(await pool.submit("1"))
        with pytest.raises(Overloaded):
            await pool.submit("1", priority="batch")
        for turn in turns:
            await pool.wait(turn.id)
        # also when nobody asks meanwhile
        await asyncio.sleep(15)
        assert stats(pool).shedding == ()
        assert (await pool.ask("1", priority="batch")).state == "completed"


async def test_an_agent_that_does_not_open_is_degraded_and_recovers() -> None:
    """Too many failures: refused with the reason and a time; taken when it opens again."""
    agent, config, notices = Unopenable(8), PoolConfig(), Notices()
    async with pooled({"a": AgentSpec(agent=agent, max=1)}, observers=[notices]) as pool:
        queued = await pool.submit("early", deadline_s=5_000)
        await notices.until(AgentStateNotice)
        assert stats(pool).state == "degraded"
        assert len(agent.tried_at) == config.restarts_max + 1
        with pytest.raises(AgentDegraded, match=r"could not be opened.*OSError") as refused:
            await pool.ask("hi")
        assert refused.value.retry_after_s is not None
        assert "no route" not in str(refused.value)
        assert "OSError" in ((await pool.ready())["agent:a"] or "")
        await notices.until(AgentStateNotice, 2)
        assert stats(pool).state == "ready"
        assert (await pool.wait(queued.id)).output == "opened"
        assert (await pool.ask("hi")).output == "opened"
        assert (await pool.ready())["agent:a"] is None
        # tries are spaced: nothing spins
        gaps = [b - a for a, b in pairwise(agent.tried_at)]
        assert all(0 < gap <= config.backoff_max_s for gap in gaps)
        assert len(agent.tried_at) == 9


async def test_a_draining_pool_refuses() -> None:
    """`Draining`, with a time to come back: to another server, or this one restarted."""
    agent = Held()
    async with pooled(agent) as pool:
        await agent.let_all()
        await pool.drain(deadline_s=1)
        with pytest.raises(Draining) as refused:
            await pool.ask("hi")
        assert refused.value.retry_after_s is not None
        assert pool.draining and (await pool.ready())["draining"] is not None
        await ticks()
        assert agent.started == []
