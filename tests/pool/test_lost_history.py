"""What readers are told when events, or a whole session, are gone."""

from __future__ import annotations

import asyncio

import pytest

from pool.errors import InvalidRequest, LeaseLost
from pool.events import START, HistoryLost
from pool.store.base import Lease, StateChange
from pool.store.memory import MemoryStore
from pool.store.memory_limits import MemoryLimits
from pool.turn import Turn
from tests.support.agents import Held, Talking, collected, pooled, said, ticks, wall


async def test_a_malformed_cursor_is_refused() -> None:
    """`InvalidRequest`, not a reading from somewhere else."""
    async with pooled(Talking()) as pool:
        turn = await pool.ask("a")
        for cursor in ("", "1", "1-", "-1", "1-2-3", "a-b", "1-+2", "\u0661-\u0662"):
            with pytest.raises(InvalidRequest):
                await collected(pool.events(turn.id, after=cursor))


@pytest.mark.parametrize("running", [True, False])
async def test_a_cursor_of_an_unknown_epoch_is_told_that_history_was_lost(running: bool) -> None:
    """The reader is told, and goes on with what there is: no silent gap."""
    agent = Talking()
    async with pooled(agent) as pool:
        turn = await pool.submit("a b * c", session="s1")
        await agent.stopped_at.get()
        if not running:
            agent.go_on()
            await pool.wait(turn.id)
        reading = asyncio.create_task(collected(pool.events(turn.id, after="7-3")))
        await ticks()
        agent.go_on()
        events = await reading
        assert isinstance(events[0], HistoryLost)
        assert events[0].lost_from == "7-3"
        assert events[-1].type == "turn.completed"


async def test_trimmed_events_are_told_to_be_lost() -> None:
    """A reader whose events the store has dropped is told up to where, and goes on from there."""
    store = MemoryStore(clock=wall, limits=MemoryLimits(max_turns_per_session=8))
    async with pooled(Talking(), store=store) as pool:
        for n in range(30):
            await pool.ask(f"word{n}", session="s1")
        reader = await pool.watch_session("s1", after=START)
        events = await reader.take(10_000)
        reader.close()
        lost = events[0]
        assert isinstance(lost, HistoryLost) and lost.lost_from == "0-0"
        assert lost.lost_to == lost.id
        assert events[1].seq == lost.seq + 1
        assert [e.seq for e in events[1:]] == list(range(lost.seq + 1, lost.seq + len(events)))


class Stolen(MemoryStore):
    """A store whose sessions are taken by another owner before turns can end."""

    suspends = True

    async def commit(
        self, lease: Lease, turn: Turn, events: object, state: StateChange | None = None
    ) -> bool:
        await asyncio.sleep(1)
        raise LeaseLost(f"session {lease.key.id} is held by another")


async def test_readers_of_a_turn_whose_end_is_lost_come_to_an_end() -> None:
    """If another owner took the session, who waits is told, and readers do not hang."""
    agent = Held()
    async with pooled(agent, store=Stolen(clock=wall)) as pool:
        turn = await pool.submit("hi", session="s1")
        await agent.until_started(1)
        reading = asyncio.create_task(collected(pool.events(turn.id)))
        waiting = asyncio.create_task(pool.wait(turn.id))
        timed = asyncio.create_task(pool.wait(turn.id, timeout_s=60))
        await ticks()
        await agent.let_all()
        for task in (waiting, timed):
            with pytest.raises(LeaseLost):
                await task
        events = await asyncio.wait_for(reading, 10)
        assert [event.terminal for event in events].count(True) == 0


async def test_a_reader_of_a_session_that_was_deleted_is_told_so() -> None:
    """When it is made anew its readers learn that history was lost, and see the new one."""
    async with pooled(Talking()) as pool:
        await pool.ask("a b c d e f", session="s1")
        reader = await pool.watch_session("s1")
        await pool.delete_session("s1")
        await pool.ask("new", session="s1")
        events = await reader.take()
        assert isinstance(events[0], HistoryLost)
        assert said(events) == "new "
        await pool.ask("more", session="s1")
        assert said(await reader.take()) == "more "
        reader.close()
