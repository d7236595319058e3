"""How much one turn may say, keep and start: typed errors, and memory that stays bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pool import AgentSpec, TurnEnd, TurnInput
from pool.agent import Context, Decision, ToolCall
from pool.errors import AgentFailed
from pool.events import TextDelta, ToolCalled, ToolReturned, TurnCompleted
from pool.observer import TasksLeakedNotice
from pool.turn import Principal
from tests.support.agents import Leaking, Notices, Scripted, collected, pooled


async def test_an_answer_of_50_mb_fails_with_a_typed_error() -> None:
    """An answer over `max_output_bytes` fails its turn, which keeps none of it."""

    async def agent(text: str) -> str:
        return "x" * 50_000_000

    async with pooled(agent) as pool:
        with pytest.raises(AgentFailed, match="longer than 4194304 bytes") as failed:
            await pool.ask("hi")
        turn = await pool.turn(failed.value.turn_id or "")
        assert (turn.state, turn.output) == ("failed", "")


async def test_bytes_are_counted_not_characters() -> None:
    """The limit is on UTF-8: five letters of two bytes are over a limit of nine."""

    async def agent(text: str) -> str:
        return "ééééé"[: int(text)]

    async with pooled(agent, max_output_bytes=9) as pool:
        assert (await pool.ask("4")).output == "éééé"
        with pytest.raises(AgentFailed, match="longer than 9 bytes"):
            await pool.ask("5")


async def test_a_streamed_answer_over_the_limit_ends_where_it_is() -> None:
    """Deltas beyond the limit fail the turn at once; readers see those before."""
    yielded = 0

    async def agent(text: str) -> AsyncIterator[str]:
        nonlocal yielded
        while True:
            yielded += 1
            yield "0123456789"

    async with pooled(agent, max_output_bytes=100) as pool:
        events = await collected(pool.stream("hi"))
        assert events[-1].type == "turn.failed"
        assert yielded == 11
        assert len(next(e for e in events if isinstance(e, TextDelta)).text) == 100


async def test_a_million_deltas_fail_with_a_typed_error() -> None:
    """More events than `max_events` fail the turn; the log holds no more than that."""

    async def agent(text: str) -> AsyncIterator[str]:
        for _ in range(1_000_000):
            yield "x"

    async with pooled(agent, max_events=5_000) as pool:
        with pytest.raises(AgentFailed, match="more than 5000 events"):
            await pool.ask("hi", session="s1")
        assert int((await pool.session("s1")).cursor.split("-")[1]) <= 5_000 + 3


async def test_tool_results_count_as_well() -> None:
    """What tools return is in the log too, and weighs."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        await ctx.emit(ToolCalled(call_id="c", name="read"))
        await ctx.emit(ToolReturned(call_id="c", result="x" * 1_000))
        return TurnEnd(output="read")

    async with pooled({"a": Scripted(run)}, max_output_bytes=1_000) as pool:
        with pytest.raises(AgentFailed, match="longer than 1000 bytes"):
            await pool.ask("hi")


async def test_what_cannot_be_json_fails_the_turn() -> None:
    """A tool's result or arguments that are no plain data fail the turn, with a remedy."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        if turn.input == "result":
            await ctx.emit(ToolReturned(call_id="c", result=object()))
        await ctx.gate(ToolCall("c", "pay", {"to": object()}))
        return TurnEnd("paused")

    def gate(principal: Principal, call: ToolCall) -> Decision:
        return Decision("ask")

    async with pooled({"a": AgentSpec(agent=Scripted(run), gate=gate)}) as pool:
        with pytest.raises(AgentFailed, match="must be plain data"):
            await pool.ask("result")
        with pytest.raises(AgentFailed, match="must be plain data"):
            await pool.ask("arguments")


async def test_an_agent_may_not_tell_what_only_the_pool_knows() -> None:
    """Terminal and other events of the pool's own cannot be emitted by an agent."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        await ctx.emit(TurnCompleted(turn=None))  # type: ignore[arg-type]
        return TurnEnd()

    async with pooled({"a": Scripted(run)}) as pool:
        with pytest.raises(AgentFailed, match="may not emit TurnCompleted"):
            await pool.ask("hi")


async def test_an_event_that_is_emitted_twice_has_two_places() -> None:
    """An agent that emits the same object again, or in two turns, disturbs no log."""
    delta = TextDelta("again ")

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        await ctx.emit(delta)
        await ctx.emit(delta)
        return TurnEnd()

    async with pooled({"a": Scripted(run)}) as pool:
        first, second = await pool.ask("1", session="s1"), await pool.ask("2", session="s2")
        assert first.output == second.output == "again again "
        for turn in (first, second):
            events = await collected(pool.events(turn.id))
            assert [event.turn_id for event in events] == [turn.id] * len(events)
            assert len({event.seq for event in events}) == len(events)


async def test_tasks_that_an_agent_leaves_are_cancelled_and_counted() -> None:
    """Tasks that outlive their turn are cancelled at its end, and an observer is told how many."""
    agent, notices = Leaking(3), Notices()
    async with pooled(agent, observers=[notices]) as pool:
        turn = await pool.ask("hi")
        await asyncio.wait(agent.tasks)
        assert all(task.cancelled() for task in agent.tasks)
        assert [(n.turn_id, n.count) for n in notices.of(TasksLeakedNotice)] == [(turn.id, 3)]


@pytest.mark.parametrize("ending", ["fails", "crashes", "is cancelled"])
async def test_tasks_are_cancelled_however_the_turn_ends(ending: str) -> None:
    """A turn that fails, crashes its actor or is cancelled leaves no task behind either."""
    left: list[asyncio.Task[bool]] = []
    running = asyncio.Event()

    async def agent(text: str) -> str:
        left.append(asyncio.create_task(asyncio.Event().wait()))
        await asyncio.sleep(0)
        running.set()
        if ending == "fails":
            raise ValueError
        if ending == "crashes":
            raise SystemExit
        return str(await asyncio.Event().wait())

    async with pooled(agent, max_attempts=1) as pool:
        turn = await pool.submit("hi")
        await running.wait()
        if ending == "is cancelled":
            await pool.cancel(turn.id)
        await pool.wait(turn.id)
        await asyncio.wait(left, timeout=1)
        assert all(task.cancelled() for task in left)


async def test_what_an_agent_awaits_is_no_leak() -> None:
    """Tasks that ended within the turn are not counted, nor are those of another turn."""
    notices = Notices()

    async def agent(text: str) -> str:
        return (await asyncio.gather(*[asyncio.sleep(1, text) for _ in range(3)]))[0]

    async with pooled(agent, observers=[notices]) as pool:
        await asyncio.gather(*[pool.ask(str(n)) for n in range(3)])
        assert notices.of(TasksLeakedNotice) == []
