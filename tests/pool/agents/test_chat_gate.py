"""The chat agent and the gate: denied calls, pauses, decisions."""

from __future__ import annotations

import pytest

from pool.agent import ALLOW, Decision, TurnInput
from pool.agents.conversation import Conversation, ModelSaid, ToolSaid, UserSaid
from pool.events import ToolReturned
from tests.support.chat_agents import (
    agent_of,
    agent_with,
    ask_for,
    deny,
    state_of,
)
from tests.support.context import RecordingContext
from tests.support.scripted_model import ScriptedModel, calls, says


async def test_denied_call_is_not_run():
    """The model is told that it may not and why; the turn goes on."""
    model = ScriptedModel(calls(("delete", {"name": "all"})), says("I may not"))
    ctx = RecordingContext(deny)

    await agent_with(model).run(TurnInput("x"), ctx)

    assert model.prompts[1][-1] == ToolSaid("call00100", "denied: not on Sundays")
    assert ctx.returned == [ToolReturned("s1c0", "denied: not on Sundays", is_error=True)]


async def test_asked_call_pauses_the_turn_and_the_others_run():
    """Allowed calls of the step are run, then the turn waits; the asked one has not happened."""
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
    """With the human's decision the pending call is run or not; the rest is not repeated."""
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
    """A new turn after one that was dropped while it waited shows the model no open call."""
    paused = await agent_of(calls(("delete", {"name": "all"}))).run(
        TurnInput("x"), RecordingContext(ask_for("delete"))
    )
    model = ScriptedModel(says("fine"))

    end = await agent_with(model).run(
        TurnInput("never mind", state=paused.state), RecordingContext()
    )

    assert [type(entry) for entry in model.prompts[0]] == [UserSaid, ModelSaid, ToolSaid, UserSaid]
    assert end.state is not None
    assert b"progress" not in end.state
