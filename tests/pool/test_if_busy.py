"""What a second turn of a session does to the first (`reject` is in test_sessions)."""

from __future__ import annotations

import asyncio

import pytest

from pool import AgentPool, AgentSpec, TurnEnd, TurnInput
from pool.agent import Context, Decision, ToolCall
from pool.events import TextDelta
from pool.turn import IfBusy, Principal
from tests.support.agents import Held, Scripted, collected, pooled, ticks

MAKES_WAY: tuple[IfBusy, ...] = ("interrupt", "rollback")


class Talking:
    """Says a word, then waits for ever, unless the input is an answer to be given at once."""

    def __init__(self) -> None:
        self.said = asyncio.Event()

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        await ctx.emit(TextDelta(f"about {turn.input}"))
        if turn.input == "long":
            self.said.set()
            await asyncio.Event().wait()
        return TurnEnd()


async def contents(pool: AgentPool, session: str) -> list[str]:
    return [message.content for message in (await pool.messages(session)).items]


async def test_interrupt_ends_the_running_turn_and_keeps_what_it_said() -> None:
    """The running turn is interrupted; its words stay; the new one runs at once."""
    agent = Talking()
    async with pooled({"a": Scripted(agent.run)}) as pool:
        first = await pool.submit("long", session="s1")
        await agent.said.wait()
        second = await pool.ask("short", session="s1", if_busy="interrupt")
        ended = await pool.turn(first.id)
        assert (ended.state, ended.output, ended.forgotten) == ("interrupted", "about long", False)
        assert second.output == "about short"
        assert await contents(pool, "s1") == ["long", "about long", "short", "about short"]


async def test_rollback_ends_the_running_turn_and_forgets_it() -> None:
    """The running turn is cancelled, adds no words, and readers are told to drop it."""
    agent = Talking()
    async with pooled({"a": Scripted(agent.run)}) as pool:
        first = await pool.submit("long", session="s1")
        await agent.said.wait()
        await pool.ask("short", session="s1", if_busy="rollback")
        ended = await pool.turn(first.id)
        assert (ended.state, ended.forgotten) == ("cancelled", True)
        assert await contents(pool, "s1") == ["short", "about short"]
        last = (await collected(pool.events(first.id)))[-1]
        assert last.type == "turn.cancelled" and last.turn.forgotten  # type: ignore[attr-defined]


@pytest.mark.parametrize("if_busy", MAKES_WAY)
async def test_they_go_before_turns_in_line(if_busy: IfBusy) -> None:
    """Such a turn runs next, before those that wait already; these run afterwards, in order."""
    agent = Held()
    async with pooled(agent) as pool:
        for text in ("one", "two", "three"):
            await pool.submit(text, session="s1")
        await agent.until_started(1)
        await pool.submit("now", session="s1", if_busy=if_busy)
        last = await pool.submit("four", session="s1")
        await agent.let_all()
        await pool.wait(last.id)
        assert agent.started == ["one", "now", "two", "three", "four"]
        assert agent.cancelled == ["one"]


@pytest.mark.parametrize("if_busy", MAKES_WAY)
async def test_they_end_a_turn_that_waits_for_an_actor(if_busy: IfBusy) -> None:
    """A session's first turn that is still queued never starts; the new one takes its place."""
    agent = Held()
    async with pooled(AgentSpec(agent=agent, max=1)) as pool:
        await pool.submit("busy", session="s0")
        await agent.until_started(1)
        first = await pool.submit("one", session="s1")
        second = await pool.submit("two", session="s1", if_busy=if_busy)
        ended = await pool.wait(first.id)
        assert ended.state == ("interrupted" if if_busy == "interrupt" else "cancelled")
        assert ended.attempt == 0
        await agent.let_all()
        await pool.wait(second.id)
        assert agent.started == ["busy", "two"]
        said = ["one", "two", "done: two"] if if_busy == "interrupt" else ["two", "done: two"]
        assert await contents(pool, "s1") == said


@pytest.mark.parametrize("if_busy", MAKES_WAY)
async def test_they_end_a_turn_that_waits_for_a_human(if_busy: IfBusy) -> None:
    """A turn that waits for an approval ends, and its approval can no longer be given."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        if turn.input == "ask" and (await ctx.gate(ToolCall("c1", "pay"))).action == "ask":
            await ctx.emit(TextDelta("may I?"))
            return TurnEnd("paused", state=b"")
        return TurnEnd(output="ok")

    def gate(principal: Principal, call: ToolCall) -> Decision:
        return Decision("ask")

    async with pooled({"a": AgentSpec(agent=Scripted(run, state_format="t/1"), gate=gate)}) as pool:
        first = await pool.ask("ask", session="s1")
        assert first.state == "waiting"
        second = await pool.ask("go", session="s1", if_busy=if_busy)
        assert second.state == "completed"
        ended = await pool.turn(first.id)
        assert ended.state == ("interrupted" if if_busy == "interrupt" else "cancelled")
        assert ended.pending == ()


@pytest.mark.parametrize("if_busy", MAKES_WAY)
async def test_in_a_free_session_they_just_run(if_busy: IfBusy) -> None:
    """Without a turn to end they are turns like any other."""

    async def agent(text: str) -> str:
        return text

    async with pooled(agent) as pool:
        await pool.ask("one", session="s1")
        assert (await pool.ask("two", session="s1", if_busy=if_busy)).state == "completed"
        assert await contents(pool, "s1") == ["one", "one", "two", "two"]


@pytest.mark.parametrize("if_busy", MAKES_WAY)
async def test_a_later_one_goes_before_an_earlier_one(if_busy: IfBusy) -> None:
    """While the running turn stops slowly, the newest of several that want its place gets it."""
    agent = Held()
    async with pooled(agent) as pool:
        await pool.submit("one", session="s1")
        await agent.until_started(1)
        await pool.submit("two", session="s1", if_busy=if_busy)
        last = await pool.submit("three", session="s1", if_busy=if_busy)
        await agent.let("three", "two")
        await asyncio.gather(pool.wait(last.id))
        assert agent.started[:2] == ["one", "three"]


async def test_an_agent_may_interrupt_its_own_turn() -> None:
    """A turn that an agent submits to interrupt its own ends that turn, and no actor."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        if turn.input == "first":
            await pool.submit("second", session=ctx.session_id, if_busy="interrupt")
        return TurnEnd(output=turn.input)

    async with pooled({"a": Scripted(run)}) as pool:
        turn = await pool.ask("first", session="s1")
        assert turn.state == "interrupted"
        assert (await pool.ask("third", session="s1")).state == "completed"
        await ticks()
        assert pool.stats().agents[0].stopped == {}


async def test_rollback_of_a_turn_that_is_stopping_forgets_it_all_the_same() -> None:
    """A turn that is being interrupted when a rollback comes adds nothing to the transcript."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        if turn.input == "slow":
            await ctx.emit(TextDelta("words"))
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(1)
        return TurnEnd(output="ok")

    async with pooled({"a": Scripted(run)}) as pool:
        first = await pool.submit("slow", session="s1")
        await asyncio.sleep(1)
        await pool.submit("two", session="s1", if_busy="interrupt")
        await pool.submit("three", session="s1", if_busy="rollback")
        ended = await pool.wait(first.id)
        assert (ended.state, ended.forgotten) == ("cancelled", True)
