"""Whoever asked and leaves: the turn ends with them, or goes on, as they said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from pool import AgentSpec
from pool.turn import OnDisconnect
from tests.support.agents import Held, collected, pooled, said, ticks


async def test_an_ask_that_is_cancelled_cancels_its_turn() -> None:
    """By default the turn of an abandoned `ask` is cancelled."""
    agent = Held()
    async with pooled(agent) as pool:
        asked = asyncio.create_task(pool.ask("hi", session="s1"))
        await agent.until_started(1)
        asked.cancel()
        await asyncio.wait([asked])
        await ticks()
        assert asked.cancelled() and agent.cancelled == ["hi"]
        assert pool.stats().turns == 0


async def test_an_ask_with_continue_leaves_its_turn_running() -> None:
    """With `on_disconnect="continue"` it goes on and can be found again."""
    agent = Held()
    async with pooled(agent) as pool:
        asked = asyncio.create_task(pool.ask("hi", session="s1", on_disconnect="continue"))
        await agent.until_started(1)
        asked.cancel()
        await asyncio.wait([asked])
        await agent.let_all()
        await ticks()
        assert [m.content for m in (await pool.messages("s1")).items] == ["hi", "done: hi"]


async def test_an_ask_with_a_timeout_of_the_callers_own() -> None:
    """`asyncio.timeout` around `ask` ends the turn too."""
    agent = Held()
    async with pooled(agent) as pool:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await pool.ask("hi")
        await ticks()
        assert agent.cancelled == ["hi"]


async def words(text: str) -> AsyncIterator[str]:
    for word in text.split():
        yield word
        await asyncio.sleep(1)


@pytest.mark.parametrize(
    ("on_disconnect", "ends"), [("cancel", "cancelled"), ("continue", "completed")]
)
async def test_leaving_a_stream_early(on_disconnect: OnDisconnect, ends: str) -> None:
    """A stream that is left in the middle cancels its turn, unless it is to go on."""
    async with pooled(words) as pool:
        stream = pool.stream("a b c d", on_disconnect=on_disconnect)
        async with aclosing(stream) as events:
            async for event in events:
                if event.type == "text.delta":
                    break
        turn = await pool.wait(event.turn_id)
        assert turn.state == ends
        assert said(await collected(pool.events(turn.id))) == (
            "a" if ends == "cancelled" else "abcd"
        )


async def test_a_stream_that_was_read_to_its_end_cancels_nothing() -> None:
    """The turn has ended by then; a second reader that leaves never concerns it."""
    async with pooled(words) as pool:
        turn = await pool.submit("a b c d")
        async with aclosing(pool.events(turn.id)) as events:
            async for event in events:
                if event.type == "text.delta":
                    break
        assert (await pool.wait(turn.id)).state == "completed"
        events_ = await collected(pool.stream("a b"))
        assert events_[-1].type == "turn.completed"


async def test_waiting_for_a_turn_is_not_asking_for_it() -> None:
    """`wait` that is cancelled, or an `ask` that only found the turn by its key, ends nothing."""
    agent = Held()
    async with pooled(agent) as pool:
        first = asyncio.create_task(pool.ask("hi", session="s1", idempotency_key="k"))
        await agent.until_started(1)
        second = asyncio.create_task(pool.ask("hi", session="s1", idempotency_key="k"))
        third = asyncio.create_task(pool.wait(next(iter(pool._turns.live))))
        await ticks()
        for task in (second, third):
            task.cancel()
        await asyncio.wait([second, third])
        assert agent.cancelled == []
        await agent.let_all()
        assert (await first).state == "completed"


async def test_a_caller_that_leaves_a_queue_makes_room() -> None:
    """The place of a turn whose caller left before it started can be taken at once."""
    agent = Held()
    async with pooled(AgentSpec(agent=agent, max=1), queue_max=1) as pool:
        await ticks()
        await pool.submit("running")
        leaving = asyncio.create_task(pool.ask("queued"))
        await ticks()
        assert pool.stats().agents[0].waiting == 1
        leaving.cancel()
        await asyncio.wait([leaving])
        assert pool.stats().agents[0].waiting == 0
        await pool.submit("next")
        await agent.let_all()
