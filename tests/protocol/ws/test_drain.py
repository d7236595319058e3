from __future__ import annotations

import asyncio

import pytest

from protocol.ws.config import WsConfig
from tests.support.serving import serving
from tests.support.serving_agents import Held
from tests.support.sockets import connected, talking

pytestmark = pytest.mark.real_time(10)


async def draining(peer, deadline_s=10.0):
    """Begin to drain the server."""
    task = asyncio.ensure_future(peer.server.drain(deadline_s))
    while (await (await peer.get("/ready")).json())["ready"]:
        pass
    return task


async def test_a_drain_says_goodbye_lets_turns_end_and_closes_with_1001():
    """Goodbye at once; new turns are refused as draining, running ones stream on; then 1001."""
    agent = Held()
    async with serving(agent) as peer, talking(peer) as talk:
        await talk.ask("turn", session_id="s", input="x")
        await agent.running.wait()
        task = await draining(peer)
        goodbye = await talk.other_than("event")
        assert goodbye["type"] == "goodbye"
        assert goodbye["reason"] == "draining"
        assert 1.0 <= goodbye["reconnect_after_s"] <= 2.0
        refused = await talk.ask("turn", session_id="t", input="y")
        assert refused["error"]["code"] == "draining"
        assert refused["error"]["retryable"] is True
        agent.release.set()
        assert (await talk.to_end())[-1]["turn"]["output"] == "late: x"
        assert (await talk.closed()).code == 1001
        await task


async def test_what_a_drain_interrupts_is_told_before_the_close():
    """The terminal event of a turn that was cut short precedes the 1001."""
    agent = Held()
    async with serving(agent) as peer, talking(peer) as talk:
        await talk.ask("turn", session_id="s", input="x", on_disconnect="cancel")
        await agent.running.wait()
        task = await draining(peer, deadline_s=0.05)
        await talk.other_than("event")
        assert (await talk.to_end())[-1]["type"] == "turn.interrupted"
        assert (await talk.closed()).code == 1001
        await task


async def test_clients_are_sent_away_at_different_times():
    """`reconnect_after_s` is spread, so that they do not all come back at once."""
    async with serving() as peer, talking(peer) as one, talking(peer) as two:
        peer.server.connections.goodbye("test", 10.0)
        times = [(await talk.hear())["reconnect_after_s"] for talk in (one, two)]
        assert times[0] != times[1]
        assert all(10.0 <= time <= 20.0 for time in times)


async def test_who_comes_during_a_drain_is_told_so():
    """A connection that says hello while the server drains gets the goodbye after its welcome."""
    async with serving() as peer, connected(peer) as talk:
        peer.server.connections.goodbye("test", 1.0)
        assert (await talk.ask("hello"))["type"] == "welcome"
        assert (await talk.hear())["type"] == "goodbye"


async def test_closing_does_not_wait_for_clients_that_never_answer():
    """A client that ignores the close is cut off after the grace."""
    config = WsConfig(close_grace_s=0.05)
    async with serving(ws=config) as peer, talking(peer, autoclose=False) as talk:
        await peer.server.connections.close()
        assert len(peer.server.connections) == 0
        assert (await talk.closed()).code == 1001


async def test_closing_twice_is_no_error():
    """A server without connections closes at once, again and again."""
    async with serving() as peer:
        await peer.server.connections.close()
        await peer.server.connections.close()
        assert repr(peer.server.connections) == "<Connections 0 open, 0 stalled>"
