"""The chat agent's loop: answers, limits and state."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from pool.agent import TurnInput
from pool.agents.chat_agent import ChatAgent
from pool.agents.conversation import Conversation, ModelSaid, UserSaid
from pool.agents.model import Answer, Emit, Prompt
from pool.agents.toolbox import Toolbox
from pool.errors import Conflict, ProviderOverloaded, ProviderTimeout
from pool.events import ReasoningDelta, TextDelta, UsageReported
from pool.turn import Message
from tests.support.agents import pooled
from tests.support.chat_agents import (
    agent_of,
    agent_with,
    entries_of,
    state_of,
)
from tests.support.context import RecordingContext
from tests.support.scripted_model import ScriptedModel, calls, says


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

    def counted(state: bytes | None) -> Conversation:
        reads.append(state)
        return load(state)

    monkeypatch.setattr(Conversation, "load", counted)

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


async def test_usage_adds_up_over_the_turn():
    """Each report holds the whole turn's usage so far, and is an object of its own."""
    ctx = RecordingContext()

    await agent_of(calls(("add", {"a": 1, "b": 2})), says("3")).run(TurnInput("x"), ctx)

    reports = [event.usage for event in ctx.events if isinstance(event, UsageReported)]
    assert [(u.requests, u.input_tokens, u.output_tokens) for u in reports] == [
        (1, 10, 5),
        (2, 20, 10),
    ]
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


async def test_empty_answer_is_an_answer():
    """A model that says nothing ends the turn, and adds nothing to the conversation."""
    end = await agent_of(says("")).run(TurnInput("x"), RecordingContext())

    assert end.status == "done"
    assert entries_of(state_of(end)) == [UserSaid("x")]


async def test_opening_and_closing_reach_the_model():
    """The model's client lives as long as the actor."""
    model = ScriptedModel()
    agent = agent_with(model)
    await agent.open()
    await agent.close()

    assert (model.opened, model.closed, agent.state_format) == (1, 1, "chat/1")


class CutShort:
    """A model that says some words, then breaks off, or never goes on."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def open(self) -> None:
        """Nothing is opened."""

    async def ask(self, prompt: Prompt, emit: Emit) -> Answer:
        """Say eighty characters of text and reasoning, and no more."""
        for _ in range(4):
            await emit(TextDelta("0123456789"))
            await emit(ReasoningDelta("0123456789"))
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()
        raise AssertionError

    async def close(self) -> None:
        """Nothing is closed."""


async def test_an_answer_that_is_cancelled_is_counted() -> None:
    """What was heard of it, and what had to be read for it: its provider charges for both."""
    agent = ChatAgent(CutShort(None), Toolbox({}, 1), window_tokens=1_000)
    async with pooled(agent) as pool:
        turn = await pool.submit("x" * 400, session="s1")
        async for event in pool.events(turn.id):
            if isinstance(event, ReasoningDelta):
                await pool.cancel(turn.id)
        ended = await pool.turn(turn.id)
    assert (ended.state, ended.usage.requests) == ("cancelled", 1)
    assert ended.usage.output_tokens == 21
    assert 100 <= ended.usage.input_tokens < 120


async def test_an_answer_that_breaks_off_is_counted() -> None:
    """Also if it is the provider that does not go on; one that never began costs nothing."""
    context = RecordingContext()
    broken = ProviderTimeout("it was silent")
    agent = ChatAgent(CutShort(broken), Toolbox({}, 1), window_tokens=1_000)
    with pytest.raises(ProviderTimeout):
        await agent.run(TurnInput("hello"), context)
    assert (context.usage.requests, context.usage.output_tokens) == (1, 21)

    refused = RecordingContext()
    agent = ChatAgent(ScriptedModel(broken), Toolbox({}, 1), window_tokens=1_000)
    with pytest.raises(ProviderTimeout):
        await agent.run(TurnInput("hello"), refused)
    assert "usage" not in refused.kinds


async def test_an_answer_that_is_cut_because_its_turn_moved_is_not_counted_here() -> None:
    """The context takes nothing any more, and what the agent broke off for is what it raises."""
    context = RecordingContext()

    class Leaving(CutShort):
        async def ask(self, prompt: Prompt, emit: Emit) -> Answer:
            await emit(TextDelta("hello"))
            context.refuse = Conflict("the turn no longer runs here")
            raise ProviderTimeout("it was silent")

    agent = ChatAgent(Leaving(None), Toolbox({}, 1), window_tokens=1_000)
    with pytest.raises(ProviderTimeout):
        await agent.run(TurnInput("hello"), context)


@pytest.mark.parametrize(
    ("costs", "total"), [((0.5, 0.25), 0.75), ((0.0, 0.0), 0.0), ((0.5, None), None)]
)
async def test_a_model_may_say_itself_what_it_cost(
    costs: tuple[float | None, ...], total: float | None
) -> None:
    """Its steps are added up; if one of them does not say, nobody knows the sum."""
    first, second = costs
    model = ScriptedModel(
        replace(calls(("nothing", {})), cost_usd=first), replace(says("done"), cost_usd=second)
    )
    ctx = RecordingContext()
    await agent_with(model).run(TurnInput("hi"), ctx)
    assert (ctx.usage.requests, ctx.usage.cost_usd) == (2, total)
