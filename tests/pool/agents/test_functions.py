"""How functions behave as agents when a turn is cancelled or fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from pool.agent import TurnInput
from pool.agents.adapt import adapt
from tests.support.context import RecordingContext


async def test_cancelled_generator_is_closed_within_the_turn():
    """A generator's finally has run when the cancelled turn ends."""
    closed = []

    async def agent(text: str) -> AsyncIterator[str]:
        try:
            yield text
            await asyncio.Event().wait()
        finally:
            closed.append(text)

    ctx = RecordingContext()
    turn = asyncio.create_task(adapt(agent)().run(TurnInput("hi"), ctx))
    await ctx.until(len)
    turn.cancel()

    with pytest.raises(asyncio.CancelledError):
        await turn
    assert closed == ["hi"]


async def test_generator_is_closed_when_emitting_fails():
    """A generator whose text cannot be emitted is closed, and the failure goes on."""
    closed = []

    async def agent(text: str) -> AsyncIterator[str]:
        try:
            yield text
        finally:
            closed.append(text)

    ctx = RecordingContext()
    ctx.refuse = RuntimeError("full")

    with pytest.raises(RuntimeError, match="full"):
        await adapt(agent)().run(TurnInput("hi"), ctx)
    assert closed == ["hi"]


@pytest.mark.real_time
async def test_cancelled_thread_is_waited_for():
    """A turn in a thread, cancelled twice, ends only when its function has returned."""
    loop = asyncio.get_running_loop()
    started, go_on, ended = asyncio.Event(), threading.Event(), []

    def agent(text: str) -> str:
        loop.call_soon_threadsafe(started.set)
        go_on.wait()
        ended.append(text)
        return text

    turn = asyncio.create_task(adapt(agent)().run(TurnInput("hi"), RecordingContext()))
    await started.wait()
    for _ in range(2):
        turn.cancel()
        await asyncio.sleep(0)
    assert not turn.done()
    go_on.set()

    with pytest.raises(asyncio.CancelledError):
        await turn
    assert ended == ["hi"]


@pytest.mark.real_time
async def test_turns_of_an_actor_share_its_thread():
    """All turns of one actor run in one thread, those of another actor in another."""
    threads = []

    def agent(text: str) -> str:
        threads.append(threading.get_ident())
        return text

    factory = adapt(agent)
    first, second = factory(), factory()
    for each in (first, first, second):
        await each.run(TurnInput("hi"), RecordingContext())
    await first.close()
    await second.close()

    assert threads[0] == threads[1] != threads[2]


@pytest.mark.real_time
async def test_synchronous_function_sees_the_context_it_asks_for():
    """A synchronous function with two arguments gets the context as well."""

    def agent(text: str, ctx: RecordingContext) -> str:
        return ctx.session_id

    end = await adapt(agent)().run(TurnInput("hi"), RecordingContext())

    assert end.output == "s1"
