"""What becomes of actors that crash, hang or do not open, and of the turns they had."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from pool import AgentPool, AgentSpec, TurnEnd, TurnInput
from pool.agent import Context
from pool.errors import DeadLetter
from pool.events import TextDelta, TurnStarted
from pool.observer import ActorStoppedNotice, AgentStateNotice
from pool.stats import AgentStats
from tests.support.agents import (
    Crashing,
    Held,
    Notices,
    Scripted,
    collected,
    pooled,
    said,
    ticks,
)


def stats(pool: AgentPool) -> AgentStats:
    return pool.stats().agents[0]


async def test_a_crash_concerns_its_own_turn_only() -> None:
    """Other turns go on where they are; the crashed one runs again on a new actor."""
    held, crashing = Held(), Crashing(1)

    async def agent(text: str) -> str:
        return await (crashing if text == "crash" else held)(text)

    async with pooled({"a": AgentSpec(agent=agent, min=3, max=3)}) as pool:
        await ticks()
        others = [await pool.submit(f"other {n}") for n in range(2)]
        turn = await pool.ask("crash")
        assert (turn.output, turn.attempt) == ("run 2", 2)
        assert len(held.running) == 2 and held.cancelled == []
        await held.let_all()
        for other in others:
            assert (await pool.wait(other.id)).attempt == 1
        assert stats(pool).stopped == {"crashed": 1}


async def test_readers_are_told_to_forget_a_crashed_attempt() -> None:
    """A second `turn.started` voids the text so far; the output has only the new one."""
    runs = 0

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        nonlocal runs
        runs += 1
        await ctx.emit(TextDelta(f"attempt {ctx.attempt} "))
        if runs == 1:
            raise SystemExit
        return TurnEnd()

    async with pooled({"a": Scripted(run)}) as pool:
        events = await collected(pool.stream("hi"))
        assert [e.attempt for e in events if isinstance(e, TurnStarted)] == [1, 2]
        assert said(events) == events[-1].turn.output == "attempt 2 "  # type: ignore[attr-defined]


async def test_a_turn_that_crashes_every_time_is_a_dead_letter() -> None:
    """After `max_attempts` it fails as such, is listed, and the pool goes on."""
    agent = Crashing(3)
    async with pooled(agent) as pool:
        with pytest.raises(DeadLetter, match="crashed its actor 3 times") as failed:
            await pool.ask("poison", session="s1")
        assert agent.runs == 3
        [letter] = await pool.store.dead_letters(None, 10)
        assert letter.id == failed.value.turn_id and letter.state == "failed"
        assert (await pool.ask("good", session="s1")).output == "run 4"
        assert stats(pool).stopped == {"crashed": 3}


async def test_actors_that_crash_repeatedly_degrade_the_agent() -> None:
    """Too many crashes: degraded, told to observers; a new actor makes it ready again."""
    agent, notices = Crashing(4), Notices()
    async with pooled({"a": agent}, observers=[notices], restarts_max=2, max_attempts=10) as pool:
        turn = await pool.ask("hi", deadline_s=1_000)
        assert turn.output == "run 5"
        states = [n.state for n in notices.of(AgentStateNotice)]
        assert states[:2] == ["degraded", "ready"] and states[-1] == "ready"
        assert "crashed more than 2 times" in notices.of(AgentStateNotice)[0].detail
        reasons = {(n.reason, n.error) for n in notices.of(ActorStoppedNotice)}
        assert reasons == {("crashed", "SystemExit")}


async def test_crashes_are_followed_by_growing_pauses() -> None:
    """Restarts wait 0.1, 0.2, 0.4 ... s, by a factor of 0.5 to 1, and never above the maximum."""
    starts: list[float] = []

    async def agent(text: str) -> str:
        starts.append(asyncio.get_running_loop().time())
        raise SystemExit

    spec = AgentSpec(agent=agent, max=1)
    async with pooled({"a": spec}, max_attempts=12, restarts_max=100, backoff_max_s=2.0) as pool:
        with pytest.raises(DeadLetter):
            await pool.ask("hi")
        gaps = [b - a for a, b in pairwise(starts)]
        for n, gap in enumerate(gaps):
            full_s = min(2.0, 0.1 * 2**n)
            assert full_s / 2 <= gap <= full_s + 1e-6


async def test_an_agent_that_does_not_open_in_time_has_failed() -> None:
    """`open()` that hangs is given up after `open_timeout_s` and tried again."""
    opened = 0

    class Hanging(Scripted):
        async def open(self) -> None:
            nonlocal opened
            opened += 1
            if opened == 1:
                await asyncio.Event().wait()

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        return TurnEnd(output="ok")

    async with pooled({"a": AgentSpec(agent=Hanging(run), max=1)}, open_timeout_s=7) as pool:
        turn = await pool.ask("hi")
        assert turn.queued_s == pytest.approx(7.1, abs=0.1)
        assert stats(pool).stopped == {"failed": 1}
