"""The protocol, spoken by a library that knows nothing of this one."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from protocol.ws.config import WsConfig
from tests.support.proxy import proxied
from tests.support.serving import serving

pytestmark = pytest.mark.real_time(10)

WORDS = 100


async def chatty(text):
    """Say many words, one at a time."""
    for number in range(WORDS):
        yield f"{number} "
        await asyncio.sleep(0.001)


def dial(port):
    """A connection by the `websockets` library, with its usual settings."""
    return connect(f"ws://127.0.0.1:{port}/v1/ws", subprotocols=[Subprotocol("actorpool.v1")])


async def say(socket, kind, **fields):
    """Send a command."""
    await socket.send(json.dumps({"type": kind, **fields}))


async def hear(socket):
    """The next frame."""
    return json.loads(await socket.recv())


async def test_chat_acknowledge_and_resume_after_a_cut():
    """Say hello, take a turn, acknowledge, lose the connection, go on from the cursor."""
    config = WsConfig(window=4)
    async with serving(chatty, ws=config) as peer, proxied(peer.server.port) as proxy:
        events: list[dict[str, Any]] = []
        async with dial(proxy.port) as socket:
            await say(socket, "hello")
            assert (await hear(socket))["type"] == "welcome"
            await say(socket, "turn", ref="t", session_id="s", input="go")
            accepted = await hear(socket)
            assert (accepted["type"], accepted["ref"]) == ("accepted", "t")
            while len(events) < 12:
                events.append((await hear(socket))["event"])
                await say(socket, "ack", session_id="s", cursor=events[-1]["id"])
            proxy.cut()
            await socket.wait_closed()
        async with dial(proxy.port) as socket:
            await say(socket, "hello", sessions={"s": events[-1]["id"]})
            assert (await hear(socket))["type"] == "welcome"
            while "turn" not in events[-1]:
                events.append((await hear(socket))["event"])
                await say(socket, "ack", session_id="s", cursor=events[-1]["id"])
    text = "".join(event["text"] for event in events if event["type"] == "text.delta")
    assert text == "".join(f"{number} " for number in range(WORDS))
    assert events[-1]["turn"]["output"] == text
    places = [int(event["id"].partition("-")[2]) for event in events]
    assert places == sorted(set(places))


async def test_the_closing_handshake_is_completed_both_ways():
    """The library's own close is clean, and so is the server's."""
    async with serving() as peer:
        async with dial(peer.server.port) as socket:
            await say(socket, "hello")
            await hear(socket)
        assert socket.close_code == 1000
        async with dial(peer.server.port) as socket:
            await socket.send(b"binary")
            with pytest.raises(ConnectionClosed) as caught:
                await hear(socket)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 4400
            assert caught.value.rcvd_then_sent


async def test_a_frame_too_large_is_told_to_a_library_that_is_still_sending():
    """4413 arrives, however much is on its way."""
    async with serving() as peer, dial(peer.server.port) as socket:
        with suppress(ConnectionClosed):
            await say(socket, "hello", ticket="x" * 8_000_000)
        await socket.wait_closed()
        assert socket.close_code == 4413
