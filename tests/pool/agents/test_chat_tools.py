"""The chat agent's tool calls: how they run, and what is told of them."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from pool.agent import Context, ToolCall, TurnInput
from pool.agents.conversation import ModelSaid, ToolSaid
from pool.agents.tool_results import RESULT_CHARS
from pool.errors import LimitExceeded
from pool.events import ToolCalled, ToolReturned
from tests.support.chat_agents import (
    agent_of,
    agent_with,
    entries_of,
    told_of,
)
from tests.support.context import RecordingContext
from tests.support.scripted_model import ScriptedModel, calls, says


async def test_tool_is_called_and_its_result_told():
    """A call goes to the gate, runs, is told to readers, and its result to the model."""
    model = ScriptedModel(calls(("add", {"a": 1, "b": 2}), refs=["call_x"]), says("3"))
    ctx = RecordingContext()

    end = await agent_with(model).run(TurnInput("1 + 2?"), ctx)

    assert ctx.asked == [ToolCall("s1c0", "add", {"a": 1, "b": 2})]
    assert ctx.kinds == ["usage", "tool.called", "tool.returned", "text.delta", "usage"]
    assert ctx.events[1] == ToolCalled("s1c0", "add", {"a": 1, "b": 2})
    assert ctx.returned == [ToolReturned("s1c0", 3)]
    assert model.prompts[1][-1] == ToolSaid("call_x", "3")
    assert end.state is not None
    assert len(entries_of(end.state)) == 4


async def test_calls_of_one_step_run_at_once():
    """Calls run together, at most `parallel` at a time, and are told as they end."""
    running, most = 0, 0
    release = {n: asyncio.Event() for n in range(3)}

    async def wait(n: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await release[n].wait()
        running -= 1
        return n

    answer = calls(*(("wait", {"n": n}) for n in range(3)))
    ctx = RecordingContext()
    agent = agent_of(answer, says("done"), tools=[wait], parallel=2)
    turn = asyncio.create_task(agent.run(TurnInput("x"), ctx))
    await ctx.until(lambda events: sum(isinstance(e, ToolCalled) for e in events) == 3)
    for told, n in enumerate((1, 2, 0), start=1):
        release[n].set()
        await ctx.until(partial(told_of, ctx, told))
    end = await turn

    assert most == 2
    assert [call.call_id for call in ctx.asked] == ["s1c0", "s1c1", "s1c2"]
    assert [event.result for event in ctx.returned] == [1, 2, 0]
    assert end.status == "done"


async def test_cancelled_turn_takes_its_tools_with_it():
    """No tool runs on behind a cancelled turn, and no state comes of it."""
    started, ended = [], []

    async def wait(n: int) -> None:
        started.append(n)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(n)

    ctx = RecordingContext()
    agent = agent_of(calls(("wait", {"n": 1}), ("wait", {"n": 2})), tools=[wait])
    turn = asyncio.create_task(agent.run(TurnInput("x"), ctx))
    await ctx.until(lambda _: len(started) == 2 or len(ctx.events) == 3)
    await asyncio.sleep(0)
    turn.cancel()

    with pytest.raises(asyncio.CancelledError):
        await turn
    assert sorted(ended) == sorted(started) == [1, 2]
    assert ctx.checkpoints == []


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit])
async def test_tool_that_would_end_more_than_itself_has_failed(error, count):
    """Neither a CancelledError that nobody asked for nor an exit ends more than the call."""

    async def wrong() -> None:
        raise error

    ctx = RecordingContext()
    agent = agent_of(calls(*[("wrong", {})] * count), says("sorry"), tools=[wrong])
    end = await agent.run(TurnInput("x"), ctx)

    assert end.status == "done"
    assert {event.result for event in ctx.returned} == {f"the tool failed: {error.__name__}"}


async def test_failing_tool_is_told_to_the_model_alone():
    """The model reads the exception's text; readers are told its type and no more."""
    model = ScriptedModel(calls(("fail", {"secret": "canary"})), says("sorry"))
    ctx = RecordingContext()

    await agent_with(model).run(TurnInput("x"), ctx)

    assert model.prompts[1][-1] == ToolSaid("call00100", "the tool failed: ValueError: canary")
    assert ctx.returned == [ToolReturned("s1c0", "the tool failed: ValueError", is_error=True)]


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("rm", {}, "there is no tool 'rm'; the tools are: add, delete, fail"),
        ("add", {"a": "1", "b": 2}, "invalid arguments: Expected `int`, got `str` - at `$.a`"),
        ("add", {"a": 1}, "invalid arguments: Object missing required field `b`"),
        ("add", '{"a": 1', "invalid arguments: Input data was truncated"),
        ("add", "[1, 2]", "invalid arguments: give a JSON object"),
        ("add", "[" * 100_000, "invalid arguments: "),
        ("add", '{"a": ' + "9" * 10_000 + ', "b": 1}', "invalid arguments: "),
    ],
    ids=["unknown", "type", "missing", "truncated", "array", "deep", "huge"],
)
async def test_wrong_call_is_answered_without_gate_or_run(name, arguments, result):
    """A call that cannot be made is not put to the gate; the model is told why."""
    model = ScriptedModel(calls((name, arguments)), says("sorry"))
    ctx = RecordingContext()

    end = await agent_with(model).run(TurnInput("x"), ctx)

    assert ctx.asked == []
    said = model.prompts[1][-1]
    assert isinstance(said, ToolSaid)
    assert said.text.startswith(result)
    assert [event.is_error for event in ctx.returned] == [True]
    assert end.status == "done"


async def test_refs_are_made_up_where_the_model_gives_none_or_twice_the_same():
    """Each result can be matched to its call, whatever the model calls them."""
    answer = calls(*[("add", {"a": 1, "b": 2})] * 3, refs=["same", "same", ""])
    model = ScriptedModel(answer, says("ok"))

    await agent_with(model).run(TurnInput("x"), RecordingContext())

    said = model.prompts[1][1]
    assert isinstance(said, ModelSaid)
    assert [call.ref for call in said.calls] == ["same", "call00101", "call00102"]
    assert {e.ref for e in model.prompts[1] if isinstance(e, ToolSaid)} == {
        c.ref for c in said.calls
    }


@pytest.mark.parametrize("count", [1, 3])
async def test_failure_to_tell_readers_goes_on_as_it_is(count):
    """What `emit` raises ends the turn as that error, also while several tools run."""
    ctx = RecordingContext()

    async def fill(n: int) -> None:
        ctx.refuse = LimitExceeded("too much")

    agent = agent_of(calls(*[("fill", {"n": 1})] * count), tools=[fill])

    with pytest.raises(LimitExceeded):
        await agent.run(TurnInput("x"), ctx)


async def test_tool_may_use_the_context():
    """A tool with a context has the turn's own, and the key of its own call."""

    async def who(ctx: Context, call: ToolCall) -> str:
        return ctx.idempotency_key(call)

    ctx = RecordingContext()
    await agent_of(calls(("who", {})), says("ok"), tools=[who]).run(TurnInput("x"), ctx)

    assert ctx.returned == [ToolReturned("s1c0", "t1/s1c0/who")]


@pytest.mark.parametrize(
    ("value", "text", "shown", "is_error"),
    [
        ("text", "text", "text", False),
        (None, "done", None, False),
        ({"a": (1, 2)}, '{"a":[1,2]}', {"a": (1, 2)}, False),
        ("\ud800x", "?x", "?x", False),
        (object(), "the tool returned object, which is not JSON", None, True),
        ({"a": "\ud800"}, "the tool returned dict, which is not JSON", None, True),
    ],
    ids=["text", "none", "object", "surrogate", "opaque", "surrogate inside"],
)
async def test_results_are_text_for_the_model_and_json_for_readers(value, text, shown, is_error):
    """Whatever a tool returns becomes text that can be sent and a value that can be shown."""

    async def give() -> object:
        return value

    model, ctx = ScriptedModel(calls(("give", {})), says("ok")), RecordingContext()
    await agent_with(model, [give]).run(TurnInput("x"), ctx)

    assert model.prompts[1][-1] == ToolSaid("call00100", text)
    assert ctx.returned == [ToolReturned("s1c0", text if is_error else shown, is_error)]


@pytest.mark.parametrize("value", ["x" * (RESULT_CHARS + 1), ["x" * RESULT_CHARS]])
async def test_very_long_result_is_cut(value):
    """The model is shown the beginning of a result that is too long, and told so."""

    async def give() -> object:
        return value

    model = ScriptedModel(calls(("give", {})), says("ok"))
    await agent_with(model, [give], window_tokens=10**6).run(TurnInput("x"), RecordingContext())

    said = model.prompts[1][-1]
    assert isinstance(said, ToolSaid)
    assert said.text.endswith("characters in all]")
    assert len(said.text) < RESULT_CHARS + 100
