"""What a turn becomes when the store fails in the middle of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from pool import AgentSpec, Decision, ToolCall, TurnEnd, TurnInput
from pool.agent import Context
from pool.errors import Internal
from pool.events import Event
from pool.store.base import Lease, StateChange
from pool.store.memory import MemoryStore
from pool.turn import Principal, Turn
from tests.support.agents import Scripted, pooled, wall
from tests.support.stores import FailingStore


def ask_a_human(who: Principal, call: ToolCall) -> Decision:
    return Decision("ask")


async def pauses(turn: TurnInput, ctx: Context) -> TurnEnd:
    await ctx.gate(ToolCall("c1", "send"))
    return TurnEnd("paused", state=b"x")


async def test_a_pause_that_cannot_be_stored_fails_the_turn() -> None:
    """Nobody could go on from it: the turn ends, its actor lives, the next turn runs."""
    store = FailingStore(MemoryStore(clock=wall))
    spec = AgentSpec(agent=Scripted(pauses, state_format="x/1"), gate=ask_a_human, max=1)
    async with pooled(spec, store=store) as pool:
        store.fail("append", times=1)
        turn = await pool.submit("one", session="s1")
        ended = await pool.wait(turn.id)
        assert ended.state == "failed"
        assert pool.stats().agents[0].stopped == {}
        second = await pool.ask("two", session="s1")
        assert second.state == "waiting"


class Odd(MemoryStore):
    """A store that raises, at the end of one turn, what no store may raise."""

    broken = True

    async def commit(
        self, lease: Lease, turn: Turn, events: object, state: StateChange | None = None
    ) -> bool:
        if self.broken:
            self.broken = False
            raise OSError("not in the contract")
        return await super().commit(lease, turn, events, state)  # type: ignore[arg-type]


async def test_a_store_that_breaks_its_contract_leaves_no_turn_without_end() -> None:
    """Who waits is told, and nothing of the turn is left here."""

    async def agent(text: str) -> str:
        return text

    async with pooled(agent, store=Odd(clock=wall)) as pool:
        with pytest.raises(Internal, match="server's log"):
            await pool.ask("one", session="s1")
        assert pool.stats().turns == 0
        assert (await pool.ask("two", session="s2")).output == "two"


class Slow(MemoryStore):
    """A store that takes its time for each append, and for the first as long as it is told to."""

    suspends = True

    def __init__(self) -> None:
        super().__init__(clock=wall)
        self.appending = asyncio.Event()
        self.go_on = asyncio.Event()

    async def append(
        self,
        lease: Lease,
        events: Sequence[Event],
        turn: Turn | None = None,
        state: StateChange | None = None,
    ) -> bool:
        self.appending.set()
        await self.go_on.wait()
        await asyncio.sleep(1)
        return await super().append(lease, events, turn, state)


async def test_a_decided_turn_goes_on_only_from_a_pause_that_is_stored() -> None:
    """Decided while its agent still ran, and stored slowly: the next run has the paused state."""
    store, asked, let = Slow(), asyncio.Event(), asyncio.Event()
    seen: list[bytes | None] = []

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        if turn.resume:
            seen.append(turn.state)
            return TurnEnd(output="done")
        await ctx.gate(ToolCall("c1", "send"))
        asked.set()
        await let.wait()
        return TurnEnd("paused", state=b"paused")

    spec = AgentSpec(agent=Scripted(run, state_format="x/1"), gate=ask_a_human, min=2, max=2)
    async with pooled(spec, store=store) as pool:
        turn = await pool.submit("one", session="s1")
        await asked.wait()
        deciding = asyncio.create_task(pool.decide(turn.id, "c1", "approve"))
        await store.appending.wait()
        let.set()
        await asyncio.sleep(1)
        store.go_on.set()
        await deciding
        assert (await pool.wait(turn.id)).output == "done"
        assert seen == [b"paused"]
