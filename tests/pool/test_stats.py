"""What a pool says of itself: stats, readiness, repr."""

from __future__ import annotations

import asyncio

import pytest

from pool import AgentSpec
from pool.config import PoolConfig
from pool.errors import ConfigError, StoreUnavailable
from pool.stats import ActorStats, LimitStats
from pool.store.memory import MemoryStore
from tests.support.agents import Crashing, Held, Unopenable, pooled, ticks, wall


async def test_stats_count_what_is_there() -> None:
    """Actors by state, who waits for an actor and who for a session, permits, sessions, turns."""
    agent = Held()
    spec = AgentSpec(agent=agent, description="holds", min=1, max=2)
    async with pooled({"a": spec, "b": agent}, name="p1") as pool:
        await ticks()
        for session in ("s1", "s1", "s2", "s3"):
            await pool.submit(session, session=session)
        await agent.until_started(2)
        await asyncio.sleep(4)
        stats = pool.stats()
        a, b = stats.agents
        assert (stats.name, stats.draining, stats.turns, stats.sessions) == ("p1", False, 4, 3)
        assert (a.name, a.description, a.state, a.detail) == ("a", "holds", "ready", None)
        assert a.actors == ActorStats(idle=0, busy=2, starting=0, abandoned=0)
        assert (a.queued, a.waiting, a.oldest_wait_s) == (1, 2, pytest.approx(4))
        assert a.limit == LimitStats("a", total=2, held=2)
        assert (a.min, a.max, a.shedding, a.refused) == (1, 2, (), {})
        assert b.actors == ActorStats(idle=1, busy=0, starting=0, abandoned=0)
        await agent.let_all()


async def test_means_and_rates_are_measured() -> None:
    """The mean hold follows the turns; rates are turns a second over the last minute."""

    async def agent(text: str) -> str:
        await asyncio.sleep(2)
        return text

    async with pooled({"a": agent}) as pool:
        assert pool.stats().agents[0].mean_hold_s is None
        for _ in range(50):
            await pool.ask("hi")
        stats = pool.stats().agents[0]
        assert stats.mean_hold_s == pytest.approx(2)
        assert stats.rates.started_per_s == pytest.approx(0.5, abs=0.05)
        assert stats.estimated_wait_s == 0


async def test_what_became_of_actors_is_counted() -> None:
    """How many stopped, and why."""
    async with pooled(Crashing(2)) as pool:
        await pool.ask("hi")
        assert pool.stats().agents[0].stopped == {"crashed": 2}


async def test_readiness_names_what_is_missing() -> None:
    """An agent without an open actor, a store that does not answer, a drain."""

    class Gone(MemoryStore):
        async def ping(self) -> None:
            raise StoreUnavailable("no answer within 0.5 s")

    agents = {"well": Held(), "ill": Unopenable(1_000), "lazy": AgentSpec(agent=Held(), min=0)}
    async with pooled(agents, store=Gone(clock=wall)) as pool:
        await ticks()
        assert await pool.ready() == {
            "draining": None,
            "store": "no answer within 0.5 s",
            "agent:well": None,
            "agent:ill": "no actor is open yet",
            "agent:lazy": None,
        }
        assert pool.stats().agents[1].state in ("starting", "ready")
        await pool.drain(deadline_s=0)
        assert (await pool.ready())["draining"] == "the pool is draining"


async def test_repr_counts_states() -> None:
    """Whoever prints a pool sees how full it is."""
    agent = Held()
    async with pooled({"a": AgentSpec(agent=agent, max=1)}, name="p1") as pool:
        assert repr(pool) == "<AgentPool p1 [<Dispatcher 'a' [0 waiting, limit 1]>]>"
        for n in range(3):
            await pool.submit(str(n), session="s1" if n else "s0")
        await agent.until_started(1)
        assert repr(pool) == "<AgentPool p1 [<Dispatcher 'a' [2 waiting, limit 1]>]>"
        dispatcher = pool._dispatchers["a"]
        assert repr(dispatcher.supervisor) == (
            "<Supervisor 'a' [0 idle, 1 busy, 0 starting, 0 abandoned]>"
        )
        assert repr(dispatcher.limiter) == "<Limiter 'a' [1 held, 0 free, limit 1]>"
        assert repr(dispatcher.queue) == "<FairQueue [1 waiting, 1 tenants]>"
        [actor] = dispatcher.supervisor.busy
        assert repr(actor) == "<Actor a-1 [busy]>"
        live = list(pool._turns.live.values())
        assert [repr(turn).split()[-1] for turn in live] == ["[running]>", "[queued]>", "[queued]>"]
        assert repr(live[1].session) == "<Session s1 [queued, 1 in line, 0 readers]>"
        await agent.let_all()


@pytest.mark.parametrize(
    "option",
    [
        {"queue_max": 0},
        {"tenant_share": 0},
        {"tenant_share": 1.5},
        {"limit_decrease": 0},
        {"tick_s": 0},
        {"tick_s": float("nan")},
        {"max_attempts": 0},
        {"tenant_weights": {"t": 0}},
        {"backoff_first_s": 40.0},
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(option: dict[str, object]) -> None:
    """With the option's name in the error."""
    with pytest.raises(ConfigError, match=next(iter(option))):
        PoolConfig(**option)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "option", [{"min": -1}, {"max": 0}, {"min": 3, "max": 2}, {"limit_initial": 0}]
)
def test_an_agent_that_makes_no_sense_is_refused(option: dict[str, int]) -> None:
    """With the option's name in the error."""
    with pytest.raises(ConfigError, match=next(iter(option))):
        AgentSpec(agent=Held(), **option)  # type: ignore[arg-type]
