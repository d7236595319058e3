"""The built-in agent against a model server on a real socket."""

from __future__ import annotations

import asyncio

import pytest

from pool.agent import TurnInput
from pool.errors import (
    LimitExceeded,
)
from pool.events import TextDelta
from tests.support.chat_over_http import ask, opened
from tests.support.context import RecordingContext
from tests.support.model_server import ModelServer, Reply, chunk

pytestmark = pytest.mark.real_time


async def test_answer_is_streamed():
    """Reasoning and text come as deltas, the usage after them, and the key goes along."""
    reply = Reply(reasoning="hm", text="hello there", usage=(7, 3))
    async with (
        ModelServer([reply]) as server,
        opened(server, api_key="k", instructions="Be.") as agent,
    ):
        _, ctx = await ask(agent)

    assert ctx.text == "hello there"
    assert ctx.kinds[0] == "reasoning.delta"
    assert (ctx.usage.input_tokens, ctx.usage.output_tokens, ctx.usage.models) == (
        7,
        3,
        ("test-1",),
    )
    assert server.headers[0]["Authorization"] == "Bearer k"
    assert server.requests[0]["messages"][0] == {"role": "system", "content": "Be."}
    assert server.requests[0]["model"] == "test"


async def test_tools_are_called_over_the_wire():
    """Calls arrive in pieces, run, and their results go back under the provider's own ids."""
    async with ModelServer() as server, opened(server) as agent:
        _, ctx = await ask(agent, 'call add {"a": 1, "b": 2} && double {"a": 21}')

    assert ctx.text == "done: 42"
    assert {event.result for event in ctx.returned} == {3, 42}
    messages = server.requests[1]["messages"]
    asked = {call["id"] for call in messages[1]["tool_calls"]}
    assert (
        {message["tool_call_id"] for message in messages[2:]} == asked == {"call_1_0", "call_1_1"}
    )
    described = server.requests[0]["tools"][0]["function"]
    assert described["parameters"]["properties"]["a"] == {
        "description": "the first",
        "type": "integer",
    }


async def test_loop_ends_at_the_limit_of_steps():
    """A model that never stops calling is asked as often as is allowed."""
    async with ModelServer() as server, opened(server, max_steps=3) as agent:
        end, _ = await ask(agent, 'loop add {"a": 1, "b": 2}')

    assert (end.status, len(server.requests)) == ("limit", 3)


async def test_turn_limited_in_tokens_says_so_to_the_provider():
    """The limit is sent, and an answer that was cut ends the turn as limit."""
    async with (
        ModelServer([Reply(text="once upon", finish="length")]) as server,
        opened(server) as agent,
    ):
        end = await agent.run(TurnInput("hi"), RecordingContext(max_tokens=30))

    assert (end.status, server.requests[0]["max_tokens"]) == ("limit", 30)


async def test_one_connection_serves_an_actors_turns():
    """Answer after answer comes over the same connection."""
    async with ModelServer() as server, opened(server) as agent:
        for _ in range(3):
            await ask(agent)

    assert len(server.connections) == 1


async def test_pieces_of_one_read_are_one_delta():
    """Chunks that arrive together are emitted as one."""
    body = b"".join(chunk({"content": f"{n} "}) for n in range(50)) + chunk({}, "stop")
    async with ModelServer([Reply(raw=[body])]) as server, opened(server) as agent:
        _, ctx = await ask(agent)

    assert ctx.text == "".join(f"{n} " for n in range(50))
    assert ctx.kinds.count("text.delta") < 5


async def test_first_token_does_not_wait_for_the_rest():
    """Text is emitted while the provider still writes."""
    hold = asyncio.Event()
    raw = [chunk({"content": "first"}), chunk({"content": " last"}, "stop")]
    async with ModelServer([Reply(raw=raw, hold=hold)]) as server, opened(server) as agent:
        ctx = RecordingContext()
        turn = asyncio.create_task(agent.run(TurnInput("hi"), ctx))
        await ctx.until(lambda events: TextDelta("first") in events)
        assert not turn.done()
        hold.set()
        await turn

    assert ctx.text == "first last"


async def test_cancelled_turn_closes_its_connection_at_once():
    """The provider sees a cancelled turn hang up, and the next turn has a new connection."""
    hold = asyncio.Event()
    raw = [chunk({"content": "first"})]
    replies = [Reply(raw=raw, hold=hold), Reply(text="ok")]
    async with ModelServer(replies) as server, opened(server) as agent:
        ctx = RecordingContext()
        turn = asyncio.create_task(agent.run(TurnInput("hi"), ctx))
        await ctx.until(len)
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        await server.until(lambda seen: seen.cancelled == 1 and seen.open == 0)
        _, ctx = await ask(agent)

    assert ctx.text == "ok"
    assert len(server.connections) == 2


async def test_turn_that_may_say_no_more_closes_its_connection():
    """When emitting fails, the provider is hung up on and the failure goes on as it is."""
    hold = asyncio.Event()
    async with (
        ModelServer([Reply(raw=[chunk({"content": "x"})], hold=hold)]) as server,
        opened(server) as agent,
    ):
        ctx = RecordingContext()
        ctx.refuse = LimitExceeded("too long")
        with pytest.raises(LimitExceeded):
            await agent.run(TurnInput("hi"), ctx)
        await server.until(lambda seen: seen.cancelled == 1)


async def test_complete_answer_does_not_wait_for_a_connection_that_stays_open():
    """After [DONE] the answer is complete, even if the provider does not end the response."""
    hold = asyncio.Event()
    raw = [chunk({"content": "all"}, "stop") + b"data: [DONE]\n\n", b"data: more\n\n"]
    async with ModelServer([Reply(raw=raw, hold=hold)]) as server, opened(server) as agent:
        end, ctx = await ask(agent)
        assert (end.status, ctx.text) == ("done", "all")
        await server.until(lambda seen: seen.cancelled == 1)


async def test_answer_without_done_is_complete_with_its_finish_reason():
    """Providers that leave [DONE] or the usage out are understood."""
    async with (
        ModelServer([Reply(text="hello", done=False, usage=None)]) as server,
        opened(server) as agent,
    ):
        end, ctx = await ask(agent)

    assert (end.status, ctx.text, ctx.usage.output_tokens) == ("done", "hello", 0)


async def test_session_goes_on_over_the_wire():
    """The second turn shows the model the first one."""
    async with ModelServer() as server, opened(server) as agent:
        first, _ = await ask(agent, "one")
        await agent.run(TurnInput("two", state=first.state), RecordingContext())

    assert [message["content"] for message in server.requests[1]["messages"]] == [
        "one",
        "You said: one",
        "two",
    ]
