"""The chat agent's loop: answers, tools, the gate, pauses, limits and state."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pool.agent import ALLOW, Context, Decision, ToolCall, TurnEnd, TurnInput
from pool.agents.chat_agent import ChatAgent
from pool.agents.conversation import Conversation, ModelSaid, ToolSaid, UserSaid
from pool.agents.model import Answer
from pool.agents.toolbox import RESULT_CHARS, Toolbox
from pool.agents.tools import read_tools
from pool.errors import LimitExceeded, ProviderOverloaded
from pool.events import ToolCalled, ToolReturned, UsageReported
from pool.turn import Message
from tests.support.context import RecordingContext
from tests.support.scripted_model import ScriptedModel, calls, says


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def delete(name: str) -> str:
    """Delete something."""
    return f"deleted {name}"


async def fail(secret: str) -> str:
    """Raise what it was given."""
    raise ValueError(secret)


def ask_for(*names: str) -> Any:
    """A policy that asks a human about these tools."""
    return lambda call: Decision("ask", risk="dangerous") if call.name in names else ALLOW


def deny(call: ToolCall) -> Decision:
    """A policy that denies everything."""
    return Decision("deny", "not on Sundays")


def agent_of(*answers: Answer | Exception, tools: Any = (add, delete, fail), **more: Any) -> ChatAgent:
    """An agent whose model has this script."""
    return agent_with(ScriptedModel(*answers), tools, **more)


def agent_with(model: ScriptedModel, tools: Any = (add, delete, fail), **more: Any) -> ChatAgent:
    """An agent with this model."""
    toolbox = Toolbox(read_tools(tools), more.pop("parallel", 8))
    return ChatAgent(model, toolbox, window_tokens=more.pop("window_tokens", 10_000), **more)


def state_of(end: TurnEnd, before: bytes = b"") -> bytes:
    """The session's state after the turn, as the engine keeps it."""
    return end.state if end.state is not None else before + (end.append or b"")


def entries_of(state: bytes) -> list[Any]:
    """What a state holds."""
    return list(Conversation.load(state).entries)


async def test_answer_is_streamed_and_kept():
    """A turn without tools emits text and usage, and returns the conversation as state."""
    ctx = RecordingContext()

    end = await agent_of(says("hello")).run(TurnInput("hi"), ctx)

    assert end.status == "done"
    assert ctx.kinds == ["text.delta", "usage"]
    assert entries_of(state_of(end)) == [UserSaid("hi"), ModelSaid("hello")]


async def test_later_turn_only_grows_the_state():
    """The second turn of a session appends what was said, for a warm actor and for a cold one."""
    model = ScriptedModel(says("b"), says("d"), says("d"))
    warm = agent_with(model)
    state = state_of(await warm.run(TurnInput("a"), RecordingContext()))

    for agent in (warm, agent_with(model)):
        end = await agent.run(TurnInput("c", state=state, state_version=1), RecordingContext())
        assert end.state is None
        assert entries_of(state_of(end, state))[2:] == [UserSaid("c"), ModelSaid("d")]
    assert model.prompts[1] == model.prompts[2]


async def test_warm_actor_does_not_read_its_own_state_again(monkeypatch):
    """The state of the session that it served last is still in memory; another one is read."""
    agent = agent_of(says("b"), says("d"), says("f"), says("h"))
    first = state_of(await agent.run(TurnInput("a"), RecordingContext()))
    reads: list[bytes | None] = []
    load = Conversation.load
    monkeypatch.setattr(Conversation, "load", lambda state: reads.append(state) or load(state))

    second = state_of(await agent.run(TurnInput("c", state=first), RecordingContext()), first)
    third = state_of(await agent.run(TurnInput("e", state=second), RecordingContext()), second)
    assert reads == []
    await agent.run(TurnInput("g", state=first), RecordingContext())

    assert reads == [first]
    assert len(entries_of(third)) == 6


async def test_turn_that_breaks_off_leaves_nothing_in_memory():
    """After a failed turn the next one starts from the stored state, not from half a turn."""
    model = ScriptedModel(says("b"), ProviderOverloaded("busy"), says("d"))
    agent = agent_with(model)
    state = state_of(await agent.run(TurnInput("a"), RecordingContext()))

    with pytest.raises(ProviderOverloaded):
        await agent.run(TurnInput("lost", state=state), RecordingContext())
    await agent.run(TurnInput("c", state=state), RecordingContext())

    assert model.prompts[-1] == [UserSaid("a"), ModelSaid("b"), UserSaid("c")]


async def test_unseen_messages_are_part_of_the_conversation():
    """What was said in interrupted turns, or by other agents, is shown to the model and kept."""
    model = ScriptedModel(says("d"))
    unseen = (Message("user", "a", "t0", 0.0), Message("assistant", "b", "t0", 0.0))

    end = await agent_with(model).run(TurnInput("c", unseen=unseen), RecordingContext())

    assert model.prompts[0] == [UserSaid("a"), ModelSaid("b"), UserSaid("c")]
    assert len(entries_of(state_of(end))) == 4


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


async def test_usage_adds_up_over_the_turn():
    """Each report holds the whole turn's usage so far, and is an object of its own."""
    ctx = RecordingContext()

    await agent_of(calls(("add", {"a": 1, "b": 2})), says("3")).run(TurnInput("x"), ctx)

    reports = [event.usage for event in ctx.events if isinstance(event, UsageReported)]
    assert [(u.requests, u.input_tokens, u.output_tokens) for u in reports] == [(1, 10, 5), (2, 20, 10)]
    assert (reports[1].models, reports[1].cost_usd) == (("scripted",), None)


async def test_text_after_a_tool_begins_a_new_paragraph():
    """What is said before and after a tool call does not run together."""
    ctx = RecordingContext()

    answers = calls(("add", {"a": 1, "b": 2}), text="Let me see."), says("It is 3.")
    await agent_of(*answers).run(TurnInput("x"), ctx)

    assert ctx.text == "Let me see.\n\nIt is 3."


async def test_each_completed_step_is_a_checkpoint():
    """After each step of tools the state is safe, and the turn can go on from it elsewhere."""
    model = ScriptedModel(
        calls(("add", {"a": 1, "b": 2})), calls(("add", {"a": 3, "b": 3})), says("6"), says("again")
    )
    agent, ctx = agent_with(model), RecordingContext()

    await agent.run(TurnInput("x"), ctx)
    assert len(ctx.checkpoints) == 2
    resumed = RecordingContext(attempt=2)
    await agent.run(TurnInput("x", state=ctx.checkpoints[1], resume=True), resumed)

    assert model.prompts[3] == model.prompts[2]
    assert resumed.text == "again"
    assert resumed.usage.requests == 3


async def test_calls_of_one_step_run_at_once():
    """Calls wait for each other's company, at most `parallel` at a time, and are told as they end."""
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
    for n in (1, 2, 0):
        release[n].set()
        await ctx.until(lambda _: len(ctx.returned) > 0 and release[n].is_set())
    end = await turn

    assert most == 2
    assert [call.call_id for call in ctx.asked] == ["s1c0", "s1c1", "s1c2"]
    assert sorted(event.result for event in ctx.returned) == [0, 1, 2]
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
async def test_tool_that_cancels_itself_has_failed(count):
    """A CancelledError that nobody asked for is the tool's failure, not the turn's end."""

    async def wrong() -> None:
        raise asyncio.CancelledError

    ctx = RecordingContext()
    agent = agent_of(calls(*[("wrong", {})] * count), says("sorry"), tools=[wrong])
    end = await agent.run(TurnInput("x"), ctx)

    assert end.status == "done"
    assert {event.result for event in ctx.returned} == {"the tool failed: CancelledError"}


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
    """A call that cannot be made is not put to the gate; the model is told what is wrong with it."""
    model = ScriptedModel(calls((name, arguments)), says("sorry"))
    ctx = RecordingContext()

    end = await agent_with(model).run(TurnInput("x"), ctx)

    assert ctx.asked == []
    said = model.prompts[1][-1]
    assert isinstance(said, ToolSaid)
    assert said.text.startswith(result)
    assert [event.is_error for event in ctx.returned] == [True]
    assert end.status == "done"


async def test_denied_call_is_not_run():
    """The model is told that it may not and why; the turn goes on."""
    model = ScriptedModel(calls(("delete", {"name": "all"})), says("I may not"))
    ctx = RecordingContext(deny)

    await agent_with(model).run(TurnInput("x"), ctx)

    assert model.prompts[1][-1] == ToolSaid("call00100", "denied: not on Sundays")
    assert ctx.returned == [ToolReturned("s1c0", "denied: not on Sundays", is_error=True)]


async def test_asked_call_pauses_the_turn_and_the_others_run():
    """Allowed calls of the step are run, then the turn waits; nothing of the asked one has happened."""
    answer = calls(("delete", {"name": "all"}), ("add", {"a": 1, "b": 2}), text="Deleting.")
    ctx = RecordingContext(ask_for("delete"))

    end = await agent_of(answer).run(TurnInput("x"), ctx)

    assert end.status == "paused"
    assert [event.result for event in ctx.returned] == [3]
    assert ctx.checkpoints == []
    assert end.state is not None
    assert [call.name for call in Conversation.load(end.state).open_calls] == ["delete"]


@pytest.mark.parametrize(
    ("decision", "result"),
    [
        (Decision("allow"), "deleted all"),
        (Decision("deny", "a human said no"), "denied: a human said no"),
    ],
)
async def test_decided_turn_goes_on_where_it_was(decision, result):
    """With the human's decision the pending call is run or not, once, and the rest is not repeated."""
    answer = calls(("delete", {"name": "all"}), ("add", {"a": 1, "b": 2}), text="Deleting.")
    paused = await agent_of(answer).run(TurnInput("x"), RecordingContext(ask_for("delete")))
    model, ctx = ScriptedModel(says("done")), RecordingContext(ask_for("delete"))
    ctx.decisions["s1c0"] = decision

    end = await agent_with(model).run(TurnInput("x", state=paused.state, resume=True), ctx)

    assert end.status == "done"
    assert [event.result for event in ctx.returned] == [result]
    assert [call.call_id for call in ctx.asked] == ["s1c0"]
    assert [said.text for said in model.prompts[0] if isinstance(said, ToolSaid)] == ["3", result]
    assert ctx.text == "\n\ndone"
    assert ctx.usage.requests == 2
    assert Conversation.load(state_of(end)).usage.requests == 0


async def test_turn_that_is_not_decided_pauses_again():
    """Resumed without a decision about every call, the turn waits for the rest."""
    answer = calls(("delete", {"name": "a"}), ("delete", {"name": "b"}))
    policy = ask_for("delete")
    agent = agent_of(answer, says("done"))
    paused = await agent.run(TurnInput("x"), RecordingContext(policy))
    ctx = RecordingContext(policy)
    ctx.decisions["s1c1"] = ALLOW

    again = await agent.run(TurnInput("x", state=paused.state, resume=True), ctx)

    assert again.status == "paused"
    assert again.state is not None
    assert [call.id for call in Conversation.load(again.state).open_calls] == ["s1c0"]


async def test_pause_in_a_later_step_is_a_pause():
    """Also a call of a later step is put to the gate and stops the turn."""
    answers = calls(("add", {"a": 1, "b": 2})), calls(("delete", {"name": "all"}))
    ctx = RecordingContext(ask_for("delete"))

    end = await agent_of(*answers).run(TurnInput("x"), ctx)

    assert end.status == "paused"
    assert ctx.asked[-1].call_id == "s2c0"


async def test_abandoned_pause_leaves_no_call_without_result():
    """A new turn after one that was dropped while it waited gives the model a whole conversation."""
    paused = await agent_of(calls(("delete", {"name": "all"}))).run(
        TurnInput("x"), RecordingContext(ask_for("delete"))
    )
    model = ScriptedModel(says("fine"))

    end = await agent_with(model).run(TurnInput("never mind", state=paused.state), RecordingContext())

    assert [type(entry) for entry in model.prompts[0]] == [UserSaid, ModelSaid, ToolSaid, UserSaid]
    assert end.state is not None
    assert b"progress" not in end.state


@pytest.mark.parametrize(("ours", "agents", "asked"), [(None, 2, 2), (1, 5, 1), (5, 2, 2)])
async def test_turn_ends_at_its_limit_of_steps(ours, agents, asked):
    """The smaller of both limits counts; what was done until then is kept."""
    model = ScriptedModel(*[calls(("add", {"a": 1, "b": 2}))] * 5)
    ctx = RecordingContext(max_steps=agents)

    end = await agent_with(model, max_steps=ours).run(TurnInput("x"), ctx)

    assert (end.status, len(model.prompts)) == ("limit", asked)
    assert Conversation.load(state_of(end)).open_calls == []


async def test_turn_ends_at_its_limit_of_tokens():
    """The model may say what is left of the turn's tokens; nothing left is the limit."""
    model = ScriptedModel(*[calls(("add", {"a": 1, "b": 2}))] * 5)

    end = await agent_with(model).run(TurnInput("x"), RecordingContext(max_tokens=12))

    assert end.status == "limit"
    assert model.allowed == [12, 7, 2]


async def test_answer_that_was_cut_is_the_limit():
    """What a cut answer said counts; the calls that it may have cut are not made."""
    cut = Answer(text="once upon", calls=calls(("add", {})).calls, cut=True)
    ctx = RecordingContext()

    end = await agent_of(cut).run(TurnInput("x"), ctx)

    assert end.status == "limit"
    assert (ctx.text, ctx.asked) == ("once upon", [])
    assert entries_of(state_of(end)) == [UserSaid("x"), ModelSaid("once upon")]


async def test_long_conversation_is_cut_and_written_anew():
    """A conversation over the window is cut before the model is asked, and the state replaced."""
    model = ScriptedModel(says("fine"))
    talk = Conversation()
    for n in range(20):
        talk.add(UserSaid(f"{n} " * 50))
        talk.add(ModelSaid("x" * 100))

    end = await agent_with(model, window_tokens=500).run(
        TurnInput("last", state=talk.state()), RecordingContext()
    )

    assert len(model.prompts[0]) < 20
    assert model.prompts[0][-1] == UserSaid("last")
    assert end.state is not None
    assert len(end.state) < 2_000


async def test_refs_are_made_up_where_the_model_gives_none_or_twice_the_same():
    """Each result can be matched to its call, whatever the model calls them."""
    answer = calls(*[("add", {"a": 1, "b": 2})] * 3, refs=["same", "same", ""])
    model = ScriptedModel(answer, says("ok"))

    await agent_with(model).run(TurnInput("x"), RecordingContext())

    said = model.prompts[1][1]
    assert isinstance(said, ModelSaid)
    assert [call.ref for call in said.calls] == ["same", "call00101", "call00102"]
    assert {e.ref for e in model.prompts[1] if isinstance(e, ToolSaid)} == {c.ref for c in said.calls}


async def test_empty_answer_is_an_answer():
    """A model that says nothing ends the turn, and adds nothing to the conversation."""
    end = await agent_of(says("")).run(TurnInput("x"), RecordingContext())

    assert end.status == "done"
    assert entries_of(state_of(end)) == [UserSaid("x")]


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


async def test_opening_and_closing_reach_the_model():
    """The model's client lives as long as the actor."""
    model = ScriptedModel()
    agent = agent_with(model)
    await agent.open()
    await agent.close()

    assert (model.opened, model.closed, agent.state_format) == (1, 1, "chat/1")
