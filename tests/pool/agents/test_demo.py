"""The demo agent: what it shows, offline."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pool.agent import ALLOW, Decision, TurnEnd, TurnInput
from pool.agents.adapt import adapt
from pool.agents.demo import demo, demo_gate
from pool.turn import ANYONE
from tests.support.context import RecordingContext

NOW = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)


def context(max_tokens: int | None = None) -> RecordingContext:
    """A context with the demo's own gate."""
    return RecordingContext(lambda call: demo_gate(ANYONE, call), max_tokens=max_tokens)


async def say(text: str, state: bytes | None = None) -> tuple[TurnEnd, RecordingContext]:
    """Run one turn."""
    ctx = context()
    return await demo(now=lambda: NOW).run(TurnInput(text, state=state), ctx), ctx


async def test_it_says_that_it_is_a_demo_and_how_to_get_more():
    """Any input is answered with what was said, that no model is behind it, and how to name one."""
    _, ctx = await say("hello you")

    assert ctx.text.startswith("You said: hello you\n\n")
    assert "demo agent" in ctx.text
    assert "module:name" in ctx.text
    assert "openai:NAME" in ctx.text


async def test_it_streams_word_by_word():
    """Each word is a delta, and together they are the whole text."""
    _, ctx = await say("hello")

    assert ctx.kinds.count("text.delta") == len(ctx.text.split())


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("What time is it?", "clock: 2026-05-04 12:30 UTC"),
        ("what is 2 + 3 * 4?", "calculator: 2 + 3 * 4 = 14"),
        ("(1+2)*3", "calculator: (1+2)*3 = 9"),
        ("1/0", "calculator: the tool failed: NotArithmetic: division by zero"),
        ("time and 1+1", "clock: 2026-05-04 12:30 UTC\ncalculator: 1+1 = 2"),
    ],
)
async def test_words_of_the_input_choose_the_tools(text, answer):
    """The time and arithmetic are looked up with tools, several at once if asked."""
    _, ctx = await say(text)

    assert ctx.text == answer
    assert len(ctx.asked) == len(ctx.returned) >= 1


async def test_it_remembers():
    """The conversation is kept from turn to turn."""
    first, ctx = await say("what did I say before?")
    assert ctx.text == "You have said nothing before."
    _, ctx = await say("and before that?", first.state)

    assert ctx.text.endswith("turn 2 of our conversation. Before, you said: what did I say before?")


@pytest.mark.parametrize(
    ("decision", "answer"),
    [
        (ALLOW, "announce: announced (not really): announce lunch"),
        (Decision("deny", "a human said no"), "announce: denied: a human said no"),
    ],
)
async def test_it_shows_an_approval(decision, answer):
    """An announcement waits for a human and goes on with the decision."""
    paused, ctx = await say("announce lunch")
    assert (paused.status, ctx.text) == ("paused", "")
    ctx = context()
    ctx.decisions["s1c0"] = decision

    turn = TurnInput("announce lunch", state=paused.state, resume=True)
    end = await demo().run(turn, ctx)

    assert (end.status, ctx.text) == ("done", answer)


async def test_it_stops_at_a_limit_of_tokens():
    """It says no more words than the turn may have tokens."""
    ctx = context(max_tokens=3)
    end = await demo().run(TurnInput("hello"), ctx)

    assert (end.status, len(ctx.text.split())) == ("limit", 3)


async def test_it_is_given_to_a_pool_as_it_is():
    """`demo` itself is the factory."""
    agent = adapt(demo)()
    await agent.open()
    await agent.close()

    assert agent.state_format == "demo/1"
