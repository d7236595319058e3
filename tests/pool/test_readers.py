"""Readers of a log: replay, then live, from any cursor; no gap, no duplicate, no delay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pool import AgentPool, AgentSpec, Cursor, TextDelta, TurnEnd, TurnInput
from pool.agent import Context
from pool.errors import NotFound
from pool.events import START, Event, HistoryLost
from pool.store.base import SessionKey
from tests.support.agents import Held, Scripted, Talking, collected, pooled, said, ticks


async def test_replay_plus_live_has_no_gap_and_no_duplicate() -> None:
    """Whoever joins a turn, at whatever moment, sees all of it once."""
    agent = Talking()
    async with pooled(agent) as pool:
        turn = await pool.submit("a b * c d * e", session="s1")
        early = asyncio.create_task(collected(pool.events(turn.id)))
        await agent.stopped_at.get()
        middle = asyncio.create_task(collected(pool.events(turn.id)))
        await ticks()
        agent.go_on()
        await agent.stopped_at.get()
        late = asyncio.create_task(collected(pool.events(turn.id)))
        await ticks()
        agent.go_on()
        after = collected(pool.events(turn.id))
        readings = [await early, await middle, await late, await after]
        for events in readings:
            assert said(events) == "a b c d e "
            assert [e.type for e in events if not isinstance(e, TextDelta)] == [
                "turn.queued",
                "turn.started",
                "turn.completed",
            ]
            ids = [event.seq for event in events]
            assert ids == sorted(set(ids)) and (ids[0], ids[-1]) == (1, 8)


async def dense(pool: AgentPool, session: str) -> list[Event]:
    events = list((await pool.store.events(SessionKey("default", session), START, 10_000)).events)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return events


@pytest.mark.parametrize("live", [True, False])
async def test_resuming_from_every_cursor(live: bool) -> None:
    """From each event's id a reader gets exactly what follows, live and afterwards."""
    agent = Talking()
    async with pooled(agent, flush_events=3) as pool:
        await pool.ask("before", session="s1")
        turn = await pool.submit("a b c d * e f", session="s1")
        await agent.stopped_at.get()
        if live:
            start = (await pool.store.turn_start(turn.id)) or START
            cursors = [Cursor(start.epoch, start.seq + n) for n in range(6)]
            readings = [
                asyncio.create_task(collected(pool.events(turn.id, after=str(c)))) for c in cursors
            ]
            await ticks()
        agent.go_on()
        await pool.wait(turn.id)
        log = await dense(pool, "s1")
        mine = [event for event in log if event.turn_id == turn.id]
        if not live:
            cursors = [event.cursor for event in mine]
            readings = [
                asyncio.create_task(collected(pool.events(turn.id, after=c))) for c in cursors
            ]
        for cursor, reading in zip(cursors, readings, strict=True):
            events = await reading
            expected = [event for event in mine if event.seq > cursor.seq]
            assert said(events) == said(expected)
            kept = [event.seq for event in expected if event.type != "text.delta"]
            assert [event.seq for event in events if event.type != "text.delta"] == kept
            assert not any(isinstance(event, HistoryLost) for event in events)


async def test_a_cursor_at_or_past_the_end_has_ended() -> None:
    """A reader from the terminal event, or any later one of the session, has nothing to come."""
    agent = Talking()
    async with pooled(agent) as pool:
        first = await pool.ask("a", session="s1")
        [*_, end] = await collected(pool.events(first.id))
        for _ in range(2):
            reader = await pool.watch_turn(first.id, after=end.cursor)
            assert reader.ended and await reader.take() == []
            reader.close()
            assert await collected(pool.events(first.id, after=end.cursor)) == []
            await pool.ask("b", session="s1")
        later = Cursor.parse((await pool.session("s1")).cursor)
        assert await collected(pool.events(first.id, after=later)) == []
        assert pool.stats().sessions == 0


async def test_a_session_reader_sees_every_turn_of_the_session() -> None:
    """From now on, or from a cursor; the turns of other sessions are not there."""
    async with pooled(Talking()) as pool:
        await pool.ask("one", session="s1")
        now = await pool.watch_session("s1")
        begin = await pool.watch_session("s1", after=START)
        await pool.ask("two", session="s1")
        await pool.ask("three", session="s2")
        assert said(await now.take()) == "two "
        assert [e.text for e in await begin.take() if isinstance(e, TextDelta)] == ["one ", "two "]
        assert (now.behind, now.ended, begin.ended) == (0, False, False)
        for reader in (now, begin):
            reader.close()
            reader.close()
        assert pool.stats().sessions == 0
        with pytest.raises(NotFound):
            await pool.watch_session("s9")


async def test_a_wake_callback_is_armed_by_each_take() -> None:
    """It is called once when there is something new, and again only after the next `take`."""
    agent = Talking()
    async with pooled(agent) as pool:
        await pool.create_session("s1")
        woken: list[int] = []
        reader = await pool.watch_session("s1", wake=lambda: woken.append(1))
        turn = await pool.submit("a b c * d", session="s1")
        await agent.stopped_at.get()
        assert woken == [1] and reader.behind > 2
        assert said(await reader.take()) == "a b c "
        agent.go_on()
        await pool.wait(turn.id)
        assert woken == [1, 1]
        assert said(await reader.take()) == "d "
        reader.close()
        await pool.ask("e", session="s1")
        assert woken == [1, 1]


async def test_what_a_wake_callback_starts_is_not_the_turns() -> None:
    """A reader's task outlives the turn that woke it: it is the reader's, not the agent's."""
    flushed = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def flush() -> None:
        await asyncio.sleep(60)
        flushed.set()

    agent = Talking()
    async with pooled(agent) as pool:
        await pool.create_session("s1")
        turn = await pool.submit("* a b", session="s1")
        await agent.stopped_at.get()
        reader = await pool.watch_session(
            "s1", wake=lambda: tasks.append(asyncio.create_task(flush()))
        )
        agent.go_on()
        assert (await pool.wait(turn.id)).output == "a b "
        await flushed.wait()
        assert len(tasks) == 1
        reader.close()


async def test_a_slow_reader_never_delays_a_turn() -> None:
    """A thousand readers that take nothing cost the turn no time, and hold no copies of events."""

    async def agent(text: str) -> AsyncIterator[str]:
        for n in range(5_000):
            yield str(n)

    loop = asyncio.get_running_loop()
    async with pooled({"a": agent}) as pool:
        await pool.create_session("s1")
        readers = [await pool.watch_session("s1") for _ in range(1_000)]
        before = loop.time()
        turn = await pool.ask("hi", session="s1")
        assert turn.state == "completed" and loop.time() == before
        assert {reader.behind for reader in readers} == {5_003}
        # what lies too far back is not kept for them here: they read it from the store
        session = pool._sessions.get(SessionKey("default", "s1"))
        assert session is not None and len(session.log._events) <= 1_100
        assert all(reader._ahead == [] for reader in readers)
        text = ""
        while readers[0].behind:
            text += said(await readers[0].take(100))
        assert text == turn.output
        for reader in readers:
            reader.close()


async def test_deltas_are_joined_and_carry_the_last_id() -> None:
    """What lies behind the cursor is one event a run of text; a reader that keeps up gets each."""
    agent = Talking()
    async with pooled(agent) as pool:
        turn = await pool.submit("a b * c d", session="s1")
        await agent.stopped_at.get()
        reader = await pool.watch_turn(turn.id)
        events = await reader.take()
        assert [type(e).__name__ for e in events] == ["TurnQueued", "TurnStarted", "TextDelta"]
        assert isinstance(events[2], TextDelta)
        assert (events[2].text, events[2].seq, reader.cursor) == ("a b ", 4, events[2].cursor)
        agent.go_on()
        await pool.wait(turn.id)
        rest = await reader.take()
        assert [e.seq for e in rest] == [6, 7] and reader.ended
        reader.close()


async def test_two_turns_in_a_row_are_not_joined() -> None:
    """The text of one turn never becomes part of another's event."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        await ctx.emit(TextDelta(turn.input))
        return TurnEnd()

    async with pooled({"a": Scripted(run)}) as pool:
        turns = [await pool.ask(text, session="s1") for text in ("one", "two")]
        reader = await pool.watch_session("s1", after=START)
        deltas = [e for e in await reader.take() if isinstance(e, TextDelta)]
        assert [(d.text, d.turn_id) for d in deltas] == [(turn.output, turn.id) for turn in turns]
        reader.close()


async def test_a_turn_reader_passes_over_other_turns() -> None:
    """A reader of a queued turn sees nothing of the turns before it, and ends with its own."""
    agent = Held()
    async with pooled(AgentSpec(agent=agent)) as pool:
        await pool.submit("one", session="s1")
        two = await pool.submit("two", session="s1")
        reading = asyncio.create_task(collected(pool.events(two.id)))
        await pool.submit("three", session="s1")
        await agent.let("one", "two")
        events = await reading
        assert {event.turn_id for event in events} == {two.id}
        assert events[-1].type == "turn.completed"
        await agent.let_all()
