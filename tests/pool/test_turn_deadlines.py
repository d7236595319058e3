"""Deadlines: they count from acceptance, and end a turn wherever it is."""

from __future__ import annotations

import asyncio

import pytest

from pool import AgentSpec, TurnEnd, TurnInput
from pool.agent import Context, Decision, ToolCall
from pool.errors import Conflict, DeadlineExceeded
from pool.turn import Principal
from tests.support.agents import Held, Scripted, Stubborn, collected, pooled, ticks


async def test_a_running_turn_expires() -> None:
    """Its agent is cancelled; who asked gets `DeadlineExceeded`; nothing was said."""
    agent = Held()
    loop = asyncio.get_running_loop()
    async with pooled(agent) as pool:
        with pytest.raises(DeadlineExceeded) as failed:
            await pool.ask("hi", session="s1", deadline_s=30)
        assert loop.time() == pytest.approx(30)
        turn = await pool.turn(failed.value.turn_id or "")
        assert (turn.state, agent.cancelled) == ("expired", ["hi"])
        assert turn.error is not None
        assert (turn.error.code, turn.error.retryable) == ("deadline_exceeded", True)
        assert (await pool.messages("s1")).items == []


async def test_a_queued_turn_expires_and_never_starts() -> None:
    """A turn that still waits for an actor at its deadline leaves the queue."""
    agent = Held()
    async with pooled(AgentSpec(agent=agent, max=1)) as pool:
        await pool.submit("first")
        turn = await pool.submit("second", deadline_s=3)
        ended = await pool.wait(turn.id)
        assert (ended.state, ended.queued_s) == ("expired", pytest.approx(3))
        stats = pool.stats().agents[0]
        assert (stats.queued, stats.waiting) == (0, 0)
        await agent.let_all()
        await ticks()
        assert agent.started == ["first"]


async def test_a_turn_in_the_line_of_its_session_expires() -> None:
    """A turn behind another of its session expires on its own; the next one keeps its place."""
    agent = Held()
    async with pooled(agent) as pool:
        await pool.submit("first", session="s1")
        second = await pool.submit("second", session="s1", deadline_s=3)
        third = await pool.submit("third", session="s1")
        assert (await pool.wait(second.id)).state == "expired"
        await agent.let_all()
        await pool.wait(third.id)
        assert agent.started == ["first", "third"]


async def test_a_turn_that_waits_for_a_human_expires() -> None:
    """The deadline also ends a turn whose approval nobody gives; then it is too late for that."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        await ctx.gate(ToolCall("c1", "pay"))
        return TurnEnd("paused", state=b"")

    def gate(principal: Principal, call: ToolCall) -> Decision:
        return Decision("ask")

    spec = AgentSpec(agent=Scripted(run, state_format="t/1"), gate=gate)
    async with pooled({"a": spec}) as pool:
        turn = await pool.ask("hi", deadline_s=60)
        assert turn.state == "waiting"
        ended = await pool.wait(turn.id)
        assert ended.state == "expired" and ended.pending == ()
        with pytest.raises(Conflict):
            await pool.decide(turn.id, "c1", "approve")


async def test_an_expired_turn_whose_agent_will_not_stop_ends_after_the_grace() -> None:
    """Expiry is a cancellation like any other: after the grace the agent is left behind."""
    agent = Stubborn()
    async with pooled(agent, cancel_grace_s=2) as pool:
        turn = await pool.submit("hi", deadline_s=10)
        ended = await pool.wait(turn.id)
        assert (ended.state, ended.run_s) == ("expired", pytest.approx(12))
        agent.release.set()
        await agent.through.wait()


async def test_a_turn_that_ends_in_time_does_not_expire() -> None:
    """A deadline after the end changes nothing; many turns expire at their own times."""
    agent = Held()
    async with pooled(AgentSpec(agent=agent, max=100), start_limit=100) as pool:
        await agent.let("0", "1", "2")
        turns = [await pool.submit(str(n), deadline_s=10 + n) for n in range(20)]
        await asyncio.sleep(100)
        for n, turn in enumerate(turns):
            ended = await pool.turn(turn.id)
            assert ended.state == ("completed" if n < 3 else "expired")
            assert ended.run_s == pytest.approx(0 if n < 3 else 10 + n)
        last = (await collected(pool.events(turns[5].id)))[-1]
        assert last.type == "turn.expired"


async def test_the_agent_knows_its_deadline() -> None:
    """`ctx.deadline` is on `ctx.clock()`, and counts the time in the queue."""
    left: list[float] = []

    async def agent(text: str, ctx: Context) -> str:
        left.append(ctx.deadline - ctx.clock())
        await asyncio.sleep(4)
        return text

    async with pooled({"a": AgentSpec(agent=agent, max=1)}) as pool:
        await asyncio.gather(pool.ask("one", deadline_s=20), pool.ask("two", deadline_s=20))
        assert left == [pytest.approx(20), pytest.approx(16)]
