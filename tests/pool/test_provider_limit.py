"""The concurrency limit: it follows the provider, and may be shared by agents."""

from __future__ import annotations

import asyncio

import pytest

from pool import AgentPool, AgentSpec
from pool.agent import Context, TurnEnd, TurnInput
from pool.errors import ProviderOverloaded
from pool.observer import LimitChangedNotice
from pool.stats import AgentStats
from tests.support.agents import Held, Notices, pooled, ticks


def stats(pool: AgentPool, n: int = 0) -> AgentStats:
    return pool.stats().agents[n]


class Answering:
    """An agent that answers; `text` says how that came about."""

    state_format = ""

    async def open(self) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """After a second."""
        await asyncio.sleep(1)
        if turn.input == "degraded":
            return TurnEnd(output="sorry", marks=("degraded",))
        return TurnEnd(output="ok", overloaded=turn.input == "fell back")


async def overloaded_or(text: str) -> str:
    if text == "overloaded":
        raise ProviderOverloaded("the provider has too much")
    await asyncio.sleep(1)
    return text


async def fail(pool: AgentPool, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(Exception, match="too much"):
            await pool.ask("overloaded")


async def test_the_limit_falls_when_the_provider_is_overloaded() -> None:
    """To nine tenths, once a window, however many turns say so; and is told to observers."""
    notices = Notices()
    spec = AgentSpec(agent=overloaded_or, max=100)
    async with pooled({"a": spec}, observers=[notices], limit_window_s=1) as pool:
        await fail(pool, 5)
        assert stats(pool).limit.total == 90
        await asyncio.sleep(1.5)
        await fail(pool)
        assert stats(pool).limit.total == 81
        changes = [(n.before, n.after) for n in notices.of(LimitChangedNotice)]
        assert changes == [(100, 90), (90, 81)]


async def test_an_overload_counts_though_another_model_answered() -> None:
    """What was answered by a fallback lowers the limit all the same."""
    async with pooled(AgentSpec(agent=Answering(), max=100)) as pool:
        await pool.ask("fell back")
        assert stats(pool).limit.total == 90


async def test_a_degraded_answer_is_no_success() -> None:
    """However many turns the last resort answers, the limit does not rise."""
    spec = AgentSpec(agent=Answering(), min=4, max=4, limit_initial=2)
    async with pooled({"a": spec}, start_limit=4) as pool:
        for _ in range(4):
            await asyncio.gather(*[pool.ask("degraded") for _ in range(8)])
        assert stats(pool).limit.total == 2


async def test_a_lowered_limit_holds_turns_back() -> None:
    """No more turns run than the limit allows, though there are actors."""
    agent = Held()
    spec = AgentSpec(agent=agent, min=4, max=4, limit_initial=2)
    async with pooled(spec, start_limit=4) as pool:
        await ticks()
        turns = [await pool.submit(str(n)) for n in range(6)]
        await ticks()
        assert len(agent.running) == 2 and stats(pool).actors.idle == 2
        await agent.let_all()
        for turn in turns:
            await pool.wait(turn.id)
        assert stats(pool).limit.held == 0


@pytest.mark.parametrize("start", [1, 2, 3])
async def test_the_limit_rises_with_success(start: int) -> None:
    """As many successes as the limit is high, while in use, raise it by one; from 1 too."""
    spec = AgentSpec(agent=overloaded_or, min=4, max=4, limit_initial=start)
    async with pooled({"a": spec}, start_limit=4) as pool:
        for _ in range(4):
            await asyncio.gather(*[pool.ask("fine") for _ in range(8)])
        assert stats(pool).limit.total == 4


async def test_an_unused_limit_does_not_rise() -> None:
    """Successes one at a time prove nothing about a limit of four."""
    spec = AgentSpec(agent=overloaded_or, min=8, max=8, limit_initial=4)
    async with pooled({"a": spec}, start_limit=8) as pool:
        for _ in range(40):
            await pool.ask("fine")
        assert stats(pool).limit.total == 4


async def test_agents_share_a_limit() -> None:
    """Those that name the same limit run as many turns as it allows, and neither starves."""
    agent = Held()
    spec = AgentSpec(agent=agent, max=4, limit="provider", limit_initial=2)
    other = AgentSpec(agent=agent, max=4, limit="provider")
    async with pooled({"a": spec, "b": other, "c": AgentSpec(agent=agent)}) as pool:
        await ticks()
        for n in range(4):
            await pool.submit(f"a{n}", agent="a")
            await pool.submit(f"b{n}", agent="b")
        await pool.submit("c0", agent="c")
        await agent.until_started(3)
        await ticks()
        assert sorted(agent.running) == ["a0", "b0", "c0"]
        assert [stats(pool, n).limit.name for n in range(3)] == ["provider", "provider", "c"]
        assert stats(pool, 0).limit == stats(pool, 1).limit
        # a permit given back by one agent goes to the other's turns as well
        await agent.let("a0", "a1", "a2", "a3")
        while "b1" not in agent.started:
            await agent.until_started(len(agent.started) + 1)
        await agent.let_all()
