from __future__ import annotations

import asyncio

import pytest

from protocol.config import ServerConfig
from protocol.ws.config import WsConfig
from tests.support.proxy import proxied
from tests.support.serving import serving, until
from tests.support.serving_agents import Stepped
from tests.support.sockets import talking, wired

pytestmark = pytest.mark.real_time(10)

# A heartbeat whose ticks, at which slow readers are looked at, come every 10 ms.
QUICK_S = 0.32


async def chatty(text):
    """Say so many words as the text says, one at a time."""
    for number in range(int(text)):
        yield f"{number} "
        await asyncio.sleep(0)


async def bulky(text):
    """Say so many pieces of 64 KiB, one at a time."""
    for _ in range(int(text)):
        yield "x" * 65_536
        await asyncio.sleep(0)


def said(events):
    """The text of all deltas."""
    return "".join(event["text"] for event in events if event["type"] == "text.delta")


def words(count):
    """What `chatty` says."""
    return "".join(f"{number} " for number in range(count))


async def quiet(talk):
    """Nothing is on its way: the answer to a ping is the next frame."""
    await talk.say("ping")
    frame = await talk.hear()
    assert frame["type"] == "pong", frame


async def gone(peer):
    """Until no WebSocket is open."""
    while peer.server.connections:
        await peer.get("/health")


async def full_window(agent, talk):
    """A turn of which the window's four events have come, one by one, and none is acknowledged."""
    await talk.ask("turn", session_id="s", input="a b c d e")
    events = [await talk.event(), await talk.event()]
    for _ in range(2):
        agent.step()
        events.append(await talk.event())
    assert [event["type"] for event in events[2:]] == ["text.delta", "text.delta"]
    return events


async def test_no_more_than_the_window_is_sent_unacknowledged():
    """With the window full nothing comes; acknowledged, it opens, and what waited is joined."""
    agent = Stepped()
    async with serving(agent, ws=WsConfig(window=4)) as peer, talking(peer) as talk:
        events = await full_window(agent, talk)
        agent.step(3)
        await peer.pool.wait(events[0]["turn_id"])
        await quiet(talk)
        await talk.say("ack", session_id="s", cursor=events[1]["id"])
        joined = await talk.event()
        assert joined["text"] == "cde"
        last = await talk.event()
        assert last["type"] == "turn.completed"
        assert int(last["id"].partition("-")[2]) == int(joined["id"].partition("-")[2]) + 1


async def test_the_window_of_one_session_does_not_hold_up_another():
    """Each session has a window of its own on the shared socket."""
    agent = Stepped()
    async with serving(agent, ws=WsConfig(window=4)) as peer, talking(peer) as talk:
        events = await full_window(agent, talk)
        agent.step(3)
        await peer.pool.wait(events[0]["turn_id"])
        agent.step()
        await talk.ask("turn", session_id="other", input="z")
        assert (await talk.to_end())[-1]["turn"]["output"] == "z"


async def test_an_acknowledgement_for_a_session_that_is_not_read_is_no_error():
    """It may have crossed an unsubscribe on its way."""
    async with serving() as peer, talking(peer) as talk:
        await talk.say("ack", session_id="nothing", cursor="1-1")
        await quiet(talk)


async def test_events_come_as_soon_as_they_are_there():
    """A delta that comes alone is sent alone, whatever the pause between writes."""
    agent = Stepped()
    async with serving(agent) as peer, talking(peer) as talk:
        await talk.ask("turn", session_id="s", input="a b c")
        await talk.event()
        await talk.event()
        for word in "abc":
            agent.step()
            assert (await talk.event())["text"] == word


async def test_under_load_events_are_joined():
    """A burst of deltas becomes few events; nothing is missing, nothing is there twice."""
    config = ServerConfig(flush_s=0.02)
    async with serving(chatty, config=config) as peer, talking(peer) as talk:
        await talk.ask("turn", session_id="s", input="1000")
        events = await talk.to_end()
        assert said(events) == words(1_000)
        assert events[-1]["turn"]["output"] == words(1_000)
        assert len(events) < 200


async def test_a_reader_that_does_not_acknowledge_is_closed_and_can_resume():
    """Past the high-water mark of events it is closed with 4008; the cursor loses nothing."""
    config = WsConfig(window=2, high_water_events=50, heartbeat_s=QUICK_S)
    async with serving(chatty, ws=config) as peer:
        async with talking(peer) as talk:
            await talk.ask("turn", session_id="s", input="300")
            events = [await talk.event() for _ in range(2)]
            assert (await talk.closed()).code == 4008
        async with talking(peer, hello={"sessions": {"s": events[-1]["id"]}}) as talk:
            while "turn" not in events[-1]:
                events.append(await talk.event())
                await talk.say("ack", session_id="s", cursor=events[-1]["id"])
        assert said(events) == words(300)
        places = [int(event["id"].partition("-")[2]) for event in events]
        assert places == sorted(set(places))


async def test_one_that_resumes_from_far_behind_is_not_closed_for_it():
    """A long replay is not slowness: the mark counts from where the reader began."""
    config = WsConfig(window=4, high_water_events=10, heartbeat_s=QUICK_S)
    async with serving(chatty, ws=config) as peer:
        turn = await peer.pool.ask("2000", session="s")
        async with talking(peer, hello={"sessions": {"s": "0-0"}}) as talk:
            events = [await talk.event()]
            # a few ticks with a full window
            for _ in range(4):
                assert (await talk.ask("ping"))["type"] == "pong"
                await asyncio.sleep(QUICK_S / 16)
            while "turn" not in events[-1]:
                await talk.say("ack", session_id="s", cursor=events[-1]["id"])
                frame = await talk.hear()
                if frame["type"] == "event":
                    events.append(frame["event"])
        assert events[-1]["turn"]["output"] == turn.output


async def test_a_socket_that_does_not_read_harms_nobody_and_is_closed():
    """Its turn ends in time, others go on, and past the mark the connection is gone."""
    config = WsConfig(high_water_events=100, heartbeat_s=QUICK_S, close_grace_s=0.1)
    async with serving(bulky, ws=config) as peer, wired(peer.server.port) as wire:
        await wire.say("hello")
        await wire.hear()
        await peer.pool.create_session("s")
        await wire.say("subscribe", session_id="s")
        await wire.hear()
        wire.stop_reading()
        async with talking(peer) as other:
            for _ in range(4):
                turn = await peer.pool.ask("60", session="s")
                assert len(turn.output) == 60 * 65_536
                await other.ask("turn", session_id="o", input="1")
                events = await other.to_end()
                assert events[-1]["type"] == "turn.completed"
                await other.say("ack", session_id="o", cursor=events[-1]["id"])
        await gone(peer)


async def test_answers_nobody_reads_are_bounded():
    """A client that sends commands and reads no answers is closed at the mark of bytes."""
    config = WsConfig(high_water_bytes=10_000, close_grace_s=0.1)
    async with serving(ws=config) as peer, wired(peer.server.port) as wire:
        await wire.say("hello")
        await wire.hear()
        wire.stop_reading()

        async def flood():
            while not wire.writer.transport.is_closing():
                await wire.say("ping", ref="x" * 100)

        flooding = asyncio.ensure_future(flood())
        await gone(peer)
        flooding.cancel()
        await asyncio.wait([flooding])
        if not flooding.cancelled():
            assert isinstance(flooding.exception(), ConnectionError)


async def test_an_event_larger_than_the_mark_gets_through():
    """The mark bounds what is unread, not how large one event may be."""
    config = WsConfig(high_water_bytes=1_000)
    async with serving(bulky, ws=config) as peer, talking(peer, max_msg_size=0) as talk:
        for _ in range(3):
            await talk.ask("turn", session_id="s", input="40")
            events = await talk.to_end()
            assert len(events[-1]["turn"]["output"]) == 40 * 65_536
            assert len(said(events)) == 40 * 65_536
            await talk.say("ack", session_id="s", cursor=events[-1]["id"])


async def test_a_peer_behind_a_dead_network_is_let_go():
    """Two pings without an answer, and the connection is closed, though TCP says nothing."""
    config = WsConfig(heartbeat_s=0.1, close_grace_s=0.05)
    async with (
        serving(ws=config) as peer,
        proxied(peer.server.port) as proxy,
        talking(peer, url=proxy.url) as talk,
    ):
        # alive through several heartbeats, which are answered while we listen
        listening = asyncio.ensure_future(talk.closed())
        await asyncio.wait([listening], timeout=0.5)
        assert len(peer.server.connections) == 1
        proxy.stop_forwarding()
        await gone(peer)
        assert not listening.done()
        proxy.forward()
        assert (await listening).code in (1006, 4009)


async def test_a_peer_that_answers_no_ping_is_closed_with_4009():
    """The close code says that the heartbeat was missed."""
    config = WsConfig(heartbeat_s=0.05)
    async with serving(ws=config) as peer, talking(peer, autoping=False) as talk:
        pings = []
        while True:
            message = await talk.socket.receive()
            if message.type.name != "PING":
                break
            pings.append(message)
        assert len(pings) == 2
        assert talk.socket.close_code == 4009


async def test_an_idle_connection_has_no_task_and_no_timer_of_its_own():
    """A connection that reads a session and is idle has only the tasks that any connection has."""
    async with serving() as peer, talking(peer) as bare:
        assert (await bare.ask("ping"))["type"] == "pong"
        before = len(asyncio.all_tasks())
        await bare.ask("turn", session_id="s", input="x")
        await bare.to_end()
        for number in range(100):
            await peer.pool.create_session(f"s{number}")
            await bare.ask("subscribe", session_id=f"s{number}")
        # not by a request: its connection would be one more task
        await until(lambda: len(asyncio.all_tasks()) <= before)


async def test_what_an_agent_says_last_is_sent_though_its_turn_is_over():
    """The sending that a turn's last words set off is not the turn's, and does not end with it."""

    async def brief(text):
        # longer than the pause between writes, so that the last word sets off a write by itself
        await asyncio.sleep(0.01)
        yield "last word"

    async with serving(brief) as peer, talking(peer) as talk:
        for number in range(10):
            await talk.ask("turn", session_id="s", input=f"{number}")
            assert said(await talk.to_end()) == "last word"
