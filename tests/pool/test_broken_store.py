"""What a turn becomes when the store fails in the middle of it."""

from __future__ import annotations

import pytest

from pool import AgentSpec, Decision, ToolCall, TurnEnd, TurnInput
from pool.agent import Context
from pool.errors import Internal
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
