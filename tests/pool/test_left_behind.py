"""Agents that do not let themselves be stopped, and those that are closed."""

from __future__ import annotations

import asyncio

import pytest

from pool import AgentPool, AgentSpec, TurnEnd, TurnInput
from pool.agent import Context, Decision, ToolCall
from pool.events import TextDelta
from pool.observer import ActorStoppedNotice
from pool.stats import AgentStats
from pool.turn import Principal
from tests.support.agents import (
    Notices,
    Scripted,
    Stubborn,
    pooled,
    ticks,
)


def stats(pool: AgentPool) -> AgentStats:
    return pool.stats().agents[0]


async def test_an_agent_that_swallows_cancellation_is_left_behind() -> None:
    """After the grace the turn ends, the actor is replaced, and what the agent says is nobody's."""
    agent, notices = Stubborn(), Notices()
    async with pooled(
        {"a": AgentSpec(agent=agent, max=1)}, observers=[notices], cancel_grace_s=5
    ) as pool:
        turn = await pool.submit("hi", session="s1")
        await agent.running.wait()
        assert (await pool.cancel(turn.id)).state == "running"
        behind = asyncio.create_task(pool.ask("next", session="s1"))
        assert (await pool.wait(turn.id)).run_s == pytest.approx(5)
        assert (await behind).output == "obedient"
        actors = stats(pool).actors
        assert (actors.idle, actors.busy, actors.abandoned) == (1, 0, 1)
        assert stats(pool).limit.held == 0
        assert [n.reason for n in notices.of(ActorStoppedNotice)] == ["abandoned"]
        agent.release.set()
        await agent.through.wait()
        await ticks()
        assert stats(pool).actors.abandoned == 0
        ended = await pool.turn(turn.id)
        assert (ended.state, ended.output) == ("cancelled", "")
        assert (await pool.session("s1")).turns == 2


async def test_an_agent_that_was_left_behind_can_do_nothing_in_its_turn() -> None:
    """Emitting, asking the gate, saving state: all refused once the turn is over."""
    refused: list[str] = []
    told = asyncio.Event()

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        if turn.input != "stubborn":
            return TurnEnd(output=(turn.state or b"none").decode())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(10)
        for act in (
            ctx.emit(TextDelta("late")),
            ctx.gate(ToolCall("c1", "pay")),
            ctx.checkpoint(b"late"),
        ):
            try:
                await act
            except Exception as error:
                refused.append(type(error).__name__)
        told.set()
        return TurnEnd("paused", state=b"late")

    def gate(principal: Principal, call: ToolCall) -> Decision:
        return Decision("ask")

    spec = AgentSpec(agent=Scripted(run, state_format="t/1"), gate=gate)
    async with pooled({"a": spec}) as pool:
        turn = await pool.submit("stubborn", session="s1")
        await asyncio.sleep(1)
        await pool.cancel(turn.id)
        reader = await pool.watch_session("s1")
        await told.wait()
        await ticks()
        assert refused == ["Conflict"] * 3
        assert [e.type for e in await reader.take()] == ["turn.cancelled"]
        reader.close()
        ended = await pool.turn(turn.id)
        assert (ended.state, ended.pending) == ("cancelled", ())
        assert (await pool.ask("next", session="s1")).output == "none"


async def test_a_stopped_turn_that_crashes_ends_as_it_was_to_end() -> None:
    """An agent that exits when it is cancelled is not run again."""
    runs = 0

    async def agent(text: str) -> str:
        nonlocal runs
        runs += 1
        try:
            await asyncio.Event().wait()
        finally:
            raise SystemExit

    async with pooled(agent) as pool:
        turn = await pool.submit("hi")
        await asyncio.sleep(1)
        assert (await pool.cancel(turn.id)).state == "cancelled"
        await asyncio.sleep(60)
        assert runs == 1


async def test_actors_are_closed_with_the_pool_and_when_they_crash() -> None:
    """Every agent that was opened is closed; one that fails to close harms nobody."""

    class Clumsy(Scripted):
        async def close(self) -> None:
            await super().close()
            raise OSError

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        if turn.input == "crash" and ctx.attempt == 1:
            raise SystemExit
        return TurnEnd(output="ok")

    agent = Clumsy(run)
    async with pooled({"a": agent}) as pool:
        assert (await pool.ask("crash")).attempt == 2
        assert (agent.opened, agent.closed) == (2, 1)
    assert (agent.opened, agent.closed) == (2, 2)


async def test_an_agent_that_was_never_open_is_not_closed() -> None:
    """A pool that closes while an actor opens cancels the opening, and does not call `close()`."""

    class Opening(Scripted):
        async def open(self) -> None:
            await super().open()
            await asyncio.Event().wait()

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        return TurnEnd()

    agent = Opening(run)
    async with pooled({"a": agent}):
        await ticks()
    assert (agent.opened, agent.closed) == (1, 0)
