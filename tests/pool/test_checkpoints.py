"""A checkpoint that was begun is finished, whatever becomes of the attempt that made it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pool.agent import Context, TurnEnd, TurnInput
from pool.events import Event, TextDelta
from pool.store.base import Lease, StateChange
from pool.store.memory import MemoryStore
from pool.turn import Turn
from tests.support.agents import Scripted, pooled, wall
from tests.support.cluster import clustered
from tests.support.stores import View


class SlowCheckpoints(View):
    """A store that has a checkpoint at once, and says so after three seconds."""

    async def append(
        self,
        lease: Lease,
        events: Sequence[Event],
        turn: Turn | None = None,
        state: StateChange | None = None,
    ) -> bool:
        """Slow with a state."""
        watched = await super().append(lease, events, turn, state)
        if state is not None:
            await asyncio.sleep(3)
        return watched


class SlowEvents(View):
    """A store that takes three seconds for events alone; it has what came with a state."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.states: list[bytes] = []

    async def append(
        self,
        lease: Lease,
        events: Sequence[Event],
        turn: Turn | None = None,
        state: StateChange | None = None,
    ) -> bool:
        """Slow without a state."""
        if state is None:
            await asyncio.sleep(3)
        else:
            self.states.append(state.data)
        return await super().append(lease, events, turn, state)


def saving() -> Scripted:
    """Speaks, makes a checkpoint a second later, and says how it was begun."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        if ctx.attempt == 1:
            await ctx.emit(TextDelta("..."))
            await asyncio.sleep(1)
            await ctx.checkpoint(b"kept")
            await asyncio.sleep(60)
        return TurnEnd(output=f"attempt {ctx.attempt} resumes: {turn.resume}, from {turn.state!r}")

    return Scripted(run, state_format="saving/1")


async def test_a_turn_that_is_moved_meanwhile_goes_on_from_it() -> None:
    """A drain ends the attempt while the store has the checkpoint and has not answered yet: the
    next one, elsewhere, is told that it goes on from a state of its own turn.
    """
    async with clustered(SlowCheckpoints, saving(), saving()) as on:
        a, b = on.pools
        accepted = await a.submit("hi", session="s1", deadline_s=300)
        await asyncio.sleep(2)
        await a.drain(deadline_s=0.5)
        turn = await b.wait(accepted.id, timeout_s=50)
    assert turn.output == "attempt 2 resumes: True, from b'kept'"


async def test_a_turn_that_ends_before_it_has_none() -> None:
    """The turn is cancelled while its checkpoint waits for other events to be stored: it ends as it
    would without, and nothing is kept.
    """
    view = SlowEvents(MemoryStore(clock=wall))
    async with pooled(saving(), store=view) as pool:
        turn = await pool.submit("hi", session="s1", deadline_s=300)
        await asyncio.sleep(1.5)
        assert await pool.cancel(turn.id)
        ended = await pool.wait(turn.id, timeout_s=50)
        await asyncio.sleep(5)
    assert ended.state == "cancelled"
    assert view.states == []
