"""The end of a pool: it takes no more, gives what runs its time, and is gone when it said."""

from __future__ import annotations

import asyncio

import pytest

from pool import AgentPool, AgentSpec, Principal, TurnEnd, TurnInput
from pool.agent import Context, Decision, ToolCall
from pool.errors import Conflict, Draining, StoreUnavailable
from pool.events import TextDelta
from pool.store.memory import MemoryStore
from tests.support.agents import Held, Scripted, Stubborn, collected, pooled, ticks


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_drain_waits_for_what_runs() -> None:
    """Running and queued turns are given the time; the drain returns with the last of them."""
    agent = Held()
    async with pooled(AgentSpec(agent=agent, max=1)) as pool:
        turns = [await pool.submit(str(n)) for n in range(3)]
        draining = asyncio.create_task(pool.drain(deadline_s=100))
        await asyncio.sleep(10)
        assert not draining.done() and pool.draining
        await agent.let_all()
        await draining
        assert now() == pytest.approx(10)
        assert [(await pool.turn(turn.id)).state for turn in turns] == ["completed"] * 3


async def test_a_draining_pool_admits_nothing() -> None:
    """From the first moment on every new turn is refused and leaves nothing."""
    agent = Held()
    async with pooled(agent) as pool:
        await pool.submit("one", session="s1")
        await agent.until_started(1)
        draining = asyncio.create_task(pool.drain(deadline_s=100))
        await ticks(1)
        for session in ("s1", "s2", None):
            with pytest.raises(Draining):
                await pool.submit("two", session=session)
        assert pool.stats().turns == 1
        await agent.let_all()
        await draining
        assert agent.started == ["one"]


async def test_what_does_not_end_in_time_is_interrupted() -> None:
    """After the deadline running, queued and waiting turns are interrupted; their words stay."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        await ctx.emit(TextDelta("half"))
        if turn.input == "asks":
            await ctx.gate(ToolCall("c1", "pay"))
            return TurnEnd("paused", state=b"")
        await asyncio.Event().wait()
        return TurnEnd()

    def gate(principal: Principal, call: ToolCall) -> Decision:
        return Decision("ask")

    spec = AgentSpec(agent=Scripted(run, state_format="t/1"), gate=gate, max=1)
    async with pooled({"a": spec}) as pool:
        asks = await pool.ask("asks", session="s1")
        asked = asyncio.create_task(pool.ask("runs", session="s2"))
        await ticks()
        queued = await pool.submit("queued", session="s3")
        before = now()
        await pool.drain(deadline_s=20)
        assert now() == pytest.approx(before + 20)
        for turn_id in (asks.id, queued.id):
            turn = await pool.turn(turn_id)
            assert turn.state == "interrupted" and turn.error is not None
            assert (turn.error.code, turn.error.retryable) == ("draining", True)
        with pytest.raises(Draining):
            await asked
        assert [m.content for m in (await pool.messages("s2")).items] == ["runs", "half"]
        stats = pool.stats()
        assert (stats.turns, stats.sessions, stats.agents[0].limit.held) == (0, 0, 0)


async def test_a_drain_returns_within_its_deadline_and_the_grace() -> None:
    """Also when an agent does not let itself be cancelled: it is left behind."""
    agent = Stubborn()
    async with pooled({"a": agent}, cancel_grace_s=5) as pool:
        turn = await pool.submit("hi")
        await agent.running.wait()
        before = now()
        await pool.drain(deadline_s=10)
        assert now() <= before + 15.001
        assert (await pool.turn(turn.id)).state == "interrupted"
        assert pool.stats().agents[0].actors.abandoned == 1
        agent.release.set()


async def test_a_drain_may_be_called_again_with_less_time() -> None:
    """A second, more urgent drain ends the first one too; a third finds nothing to do."""
    agent = Held()
    async with pooled(agent) as pool:
        await pool.submit("hi")
        await agent.until_started(1)
        first = asyncio.create_task(pool.drain(deadline_s=1_000))
        await asyncio.sleep(1)
        before = now()
        await pool.drain(deadline_s=2)
        await first
        assert now() == pytest.approx(before + 2)
        await asyncio.gather(*[pool.drain(deadline_s=100) for _ in range(3)])
        assert now() == pytest.approx(before + 2)
        assert agent.cancelled == ["hi"]


async def test_drains_side_by_side_agree() -> None:
    """Many drains at once return together, and each turn ends once."""
    agent = Held()
    async with pooled(AgentSpec(agent=agent, max=4)) as pool:
        turns = [await pool.submit(str(n)) for n in range(8)]
        await asyncio.gather(*[pool.drain(deadline_s=3) for _ in range(5)])
        for turn in turns:
            ends = [e.type for e in await collected(pool.events(turn.id)) if e.terminal]
            assert ends == ["turn.interrupted"]


async def test_closing_gives_running_turns_their_time() -> None:
    """Leaving `async with` waits up to `close_deadline_s`; leaving with an error does not wait."""
    agent = Held()
    before = now()
    async with pooled(agent, close_deadline_s=7) as pool:
        turn = await pool.submit("hi")
        await agent.until_started(1)
    assert now() == pytest.approx(before + 7)
    assert (await pool.turn(turn.id)).state == "interrupted"
    before = now()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what is tested
        async with pooled(agent, close_deadline_s=7) as pool:
            await pool.submit("ho")
            await agent.until_started(2)
            raise ZeroDivisionError
    assert now() == before and agent.cancelled == ["hi", "ho"]


async def test_close_may_be_called_twice_and_at_once() -> None:
    """Two pools in one loop: closing one several times does not disturb the other."""
    leaking = Held()
    leaks: list[asyncio.Task[str]] = []

    async def agent(text: str) -> str:
        leaks.append(asyncio.create_task(leaking(text)))
        await asyncio.sleep(5)
        return "ok"

    async with pooled({"a": agent}) as other:
        async with pooled({"a": agent}) as pool:
            await pool.submit("running")
            await asyncio.gather(*[pool.close(deadline_s=1) for _ in range(3)])
            await pool.close()
            assert leaking.cancelled == ["running"]
        await other.ask("hi")
        await ticks()
        assert leaking.cancelled == ["running", "hi"]


async def test_a_pool_that_was_never_open_can_be_closed() -> None:
    """And one whose store could not be opened."""

    class Broken(MemoryStore):
        async def open(self) -> None:
            raise StoreUnavailable("no such file")

    async def agent(text: str) -> str:
        return text

    await AgentPool(agent).close()
    pool = AgentPool(agent, store=Broken())
    with pytest.raises(StoreUnavailable):
        await pool.open()
    await pool.close()
    assert repr(pool).endswith("[closed]>")


async def test_a_closed_pool_says_so() -> None:
    """Asked before it is open, or opened again after its end, a pool says what is wrong."""

    async def agent(text: str) -> str:
        return text

    pool = AgentPool(agent)
    with pytest.raises(Conflict, match="open"):
        await pool.ask("hi")
    async with pool:
        pass
    with pytest.raises(Conflict, match="make a new one"):
        await pool.open()
