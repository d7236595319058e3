"""Asking an agent in-process: the answer, its failures, and what a turn may hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pool import AgentPool, TurnEnd, TurnInput
from pool.agent import Context
from pool.errors import AgentFailed, Draining, InvalidRequest, NotFound
from pool.events import TextDelta, ToolCalled, UsageReported
from pool.turn import Principal, Usage
from tests.support.agents import Held, Scripted, collected, pooled, said, ticks


async def echo(text: str) -> str:
    return f"echo: {text}"


async def words(text: str) -> AsyncIterator[str]:
    for word in text.split():
        yield word + " "


async def test_ask_returns_the_completed_turn() -> None:
    """`ask` waits for the answer and returns the turn with it."""
    async with pooled(echo) as pool:
        turn = await pool.ask("hi", session="s1")
        assert (turn.state, turn.output, turn.session_id) == ("completed", "echo: hi", "s1")
        assert turn.attempt == 1 and turn.finished_at is not None
        assert await pool.turn(turn.id) == turn


async def test_times_of_a_turn_are_measured() -> None:
    """`queued_s` is the time in the queue, `run_s` the time with the agent."""
    agent = Held()
    async with pooled({"a": agent}, start_limit=1) as pool:
        await pool.resize("a", max=1)
        first = asyncio.create_task(pool.ask("one"))
        await agent.until_started(1)
        second = asyncio.create_task(pool.ask("two"))
        await asyncio.sleep(3)
        await agent.let("one")
        await agent.until_started(2)
        await asyncio.sleep(2)
        await agent.let("two")
        assert (await first).run_s == pytest.approx(3)
        turn = await second
        assert (turn.queued_s, turn.run_s) == (pytest.approx(3), pytest.approx(2))


async def test_stream_gives_the_events_to_the_terminal_one() -> None:
    """A stream is the turn's log: queued, started, the text, the end."""
    async with pooled(words) as pool:
        events = await collected(pool.stream("a b c"))
        assert [event.type for event in events][:2] == ["turn.queued", "turn.started"]
        assert said(events) == "a b c "
        assert events[-1].terminal and [event.terminal for event in events].count(True) == 1


async def test_an_answer_that_is_not_streamed_is_one_delta() -> None:
    """Readers see the answer of a plain function as one text delta."""
    async with pooled(echo) as pool:
        events = await collected(pool.stream("hi"))
        assert [e.text for e in events if isinstance(e, TextDelta)] == ["echo: hi"]


async def test_submit_returns_at_once_and_wait_gives_the_answer() -> None:
    """A submitted turn runs on its own; `wait` with a time limit gives it as it is then."""
    agent = Held()
    async with pooled(agent) as pool:
        turn = await pool.submit("job")
        assert turn.state in ("queued", "running")
        assert (await pool.wait(turn.id, timeout_s=5)).state == "running"
        await agent.let("job")
        assert (await pool.wait(turn.id)).output == "done: job"
        assert (await pool.wait(turn.id, timeout_s=5)).state == "completed"


async def test_a_failed_turn_raises_without_the_exceptions_text() -> None:
    """The text of an agent's exception never reaches the caller; that of `AgentFailed` does."""

    async def agent(text: str) -> str:
        raise AgentFailed("the menu is empty") if text == "public" else ValueError("hunter2")

    async with pooled(agent) as pool:
        with pytest.raises(AgentFailed, match="the menu is empty"):
            await pool.ask("public")
        with pytest.raises(AgentFailed) as failed:
            await pool.ask("secret")
        assert "hunter2" not in str(failed.value)
        turn = await pool.turn(failed.value.turn_id or "")
        assert turn.state == "failed" and turn.error is not None
        assert "hunter2" not in turn.error.detail


async def test_an_agent_that_cancels_its_own_work_fails_its_turn_only() -> None:
    """A `CancelledError` that nobody asked for is the agent's failure, not the actor's end."""

    async def agent(text: str) -> str:
        if text == "bad":
            raise asyncio.CancelledError
        return text

    async with pooled(agent) as pool:
        with pytest.raises(AgentFailed, match="cancelled by its own code"):
            await pool.ask("bad")
        assert (await pool.ask("good")).output == "good"
        assert pool.stats().agents[0].stopped == {}


@pytest.mark.parametrize("answer", [None, 5, b"bytes", ["list"], {"a": "dict"}])
async def test_an_answer_that_is_not_text_fails_the_turn(answer: object) -> None:
    """A function that returns something else fails its turn, and says what it returned."""

    async def agent(text: str) -> object:
        return answer

    async with pooled(agent) as pool:
        with pytest.raises(AgentFailed, match=type(answer).__name__):
            await pool.ask("hi")


@pytest.mark.parametrize("answer", [5, b"bytes", ["list"], {"a": "dict"}])
async def test_an_agent_that_ends_with_no_text_fails_the_turn(answer: object) -> None:
    """`TurnEnd.output` of another type fails the turn; the actor lives on."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        return TurnEnd(output=answer)  # type: ignore[arg-type]

    async with pooled({"a": Scripted(run)}) as pool:
        with pytest.raises(AgentFailed):
            await pool.ask("hi")
        assert pool.stats().agents[0].stopped == {}


@pytest.mark.parametrize("text", [None, 5, b"bytes", ["list"]])
async def test_a_delta_that_is_not_text_fails_the_turn(text: object) -> None:
    """A text delta of another type fails the turn; the actor lives on."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        await ctx.emit(TextDelta(text))  # type: ignore[arg-type]
        return TurnEnd()

    async with pooled({"a": Scripted(run)}) as pool:
        with pytest.raises(AgentFailed):
            await pool.ask("hi")
        assert pool.stats().agents[0].stopped == {}


async def test_an_agent_that_returns_no_turn_end_fails_the_turn() -> None:
    """`run` must return a `TurnEnd`."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        return "text"  # type: ignore[return-value]

    async with pooled({"a": Scripted(run)}) as pool:
        with pytest.raises(AgentFailed, match="returned str"):
            await pool.ask("hi")


async def test_usage_and_tool_calls_are_counted() -> None:
    """The record holds the usage that was reported last, and counts tool calls by itself."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        await ctx.emit(ToolCalled(call_id="c1", name="look"))
        await ctx.emit(UsageReported(usage=Usage(input_tokens=7, output_tokens=2, requests=1)))
        await ctx.emit(ToolCalled(call_id="c2", name="look"))
        return TurnEnd(output="seen")

    async with pooled({"a": Scripted(run)}) as pool:
        usage = (await pool.ask("hi")).usage
        assert (usage.input_tokens, usage.requests, usage.tool_calls) == (7, 1, 2)


async def test_an_agents_own_limit_is_a_completed_turn_with_a_reason() -> None:
    """An agent that stopped at its limit has answered, and the turn says why it stopped."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        return TurnEnd("limit", output="so far")

    async with pooled({"a": Scripted(run)}) as pool:
        turn = await pool.ask("hi")
        assert (turn.state, turn.stop_reason, turn.output) == ("completed", "limit", "so far")


async def test_wrong_requests_are_refused_before_anything_happens() -> None:
    """An empty input, a bad id or an unknown agent is said to be wrong, and no agent is touched."""
    agent = Held()
    async with pooled(agent) as pool:
        for call in (
            pool.ask(""),
            pool.ask("hi", session="../x"),
            pool.ask("hi", deadline_s=0),
            pool.ask("hi", idempotency_key="k" * 129),
            pool.ask("hi", priority="urgent"),  # type: ignore[arg-type]
        ):
            with pytest.raises(InvalidRequest):
                await call
        with pytest.raises(NotFound, match="there is no agent nobody"):
            await pool.ask("hi", agent="nobody")
        assert agent.started == [] and pool.stats().turns == 0


async def test_what_belongs_to_another_tenant_is_not_found() -> None:
    """Turn, events, cancel, decision, session and transcript of another tenant do not exist."""
    agent = Held()
    other = Principal("other", "mallory")
    async with pooled(agent) as pool:
        turn = await pool.submit("hi", session="s1")
        await agent.until_started(1)
        for call in (
            pool.turn(turn.id, principal=other),
            pool.wait(turn.id, principal=other),
            pool.cancel(turn.id, principal=other),
            pool.decide(turn.id, "c1", "approve", principal=other),
            pool.watch_turn(turn.id, principal=other),
            pool.watch_session("s1", principal=other),
            pool.session("s1", principal=other),
            pool.messages("s1", principal=other),
            pool.delete_session("s1", principal=other),
            pool.fork_session("s1", principal=other),
            collected(pool.events(turn.id, principal=other)),
        ):
            with pytest.raises(NotFound):
                await call
        await ticks()
        assert agent.cancelled == [] and (await pool.turn(turn.id)).state == "running"
        await agent.let_all()


async def test_a_pool_is_opened_once_and_refuses_after_its_end() -> None:
    """A closed pool takes no turns, may be closed again, and says so when it is opened again."""
    pool = AgentPool(echo)
    async with pool:
        pass
    await pool.close()
    with pytest.raises(Draining):
        await pool.ask("hi")


async def test_an_event_keeps_the_usage_that_it_told() -> None:
    """What is counted later changes no event that was told before, whoever holds the numbers."""
    mine = Usage(input_tokens=1)

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        await ctx.emit(UsageReported(usage=mine))
        await ctx.emit(ToolCalled(call_id="c1", name="look"))
        mine.input_tokens = 99
        return TurnEnd(output="done")

    async with pooled(Scripted(run)) as pool:
        events = [event async for event in pool.stream("hi")]
        told = [event.usage for event in events if isinstance(event, UsageReported)]
        assert [(usage.input_tokens, usage.tool_calls) for usage in told] == [(1, 0)]
