"""Clients that take their time: each is closed at its deadline. FAULTS row 20."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import repeat

import pytest

from protocol.config import ServerConfig
from protocol.ws.config import WsConfig
from tests.security.raw import HANDSHAKE, JSON, TURNS, connected, request, said
from tests.support.serving import serving
from tests.support.sockets import frame, wired

pytestmark = pytest.mark.real_time(10)

DEADLINE_S = 0.2
# What a busy machine may add, in seconds; what is read of a refused request's rest is in it.
SLACK_S = 2.5
SHORT = ServerConfig(header_timeout_s=DEADLINE_S, body_timeout_s=DEADLINE_S, keepalive_s=DEADLINE_S)
SHORT_WS = WsConfig(
    hello_timeout_s=DEADLINE_S, heartbeat_s=DEADLINE_S / 2, close_grace_s=DEADLINE_S
)
HELLO = frame(0x1, b'{"type":"hello"}')
POST = request("POST", TURNS, JSON, "Content-Length: 1000")

# What is sent at once, what follows drop by drop, and the status before the end (0: none).
SLOW = {
    "nothing at all": (b"", (), 0),
    "half a request line": (b"POST /v1/ses", (), 0),
    "a head that never ends": (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-S: ", b"x", 0),
    "a head without its last line": (b"GET /health HTTP/1.1\r\nHost: localhost\r\n", (), 0),
    "header after header": (b"GET /health HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n", 0),
    "a body that does not come": (POST, (), 408),
    "a body that comes drop by drop": (POST + b'{"input":"', b"x", 408),
    "a body that stalls": (POST + b'{"input":"x', (), 408),
    "chunks that do not come": (
        request("POST", TURNS, JSON, "Transfer-Encoding: chunked"),
        (),
        408,
    ),
    "chunk after chunk": (
        request("POST", TURNS, JSON, "Transfer-Encoding: chunked"),
        b"1\r\n \r\n",
        408,
    ),
    "a chunk that stalls": (
        request("POST", TURNS, JSON, "Transfer-Encoding: chunked", body=b"ffff\r\n{"),
        (),
        408,
    ),
    "a body that was asked for": (
        request("POST", TURNS, JSON, "Content-Length: 9", "Expect: 100-continue"),
        (),
        100,
    ),
    "a body where none belongs": (
        request("POST", "/v1/turns/none/cancel", "Content-Length: 1000"),
        b"x",
        404,
    ),
    "the second request": (request("GET", "/health") + b"GET / HTTP/1.1\r\nX: ", b"x", 200),
    "no second request": (request("GET", "/health"), (), 200),
}


async def test_slow_clients_are_closed_at_their_deadline():
    """However often a drop still comes: not before the deadline, and not long after it."""
    async with serving(config=SHORT) as peer:

        async def tried(data, drop):
            drops = repeat(drop, 1_000) if drop else ()
            return await said(peer.server.port, data, drip=drops, every_s=DEADLINE_S / 10)

        every = await asyncio.gather(*(tried(data, drop) for data, drop, _ in SLOW.values()))
        assert (await peer.pool.sessions(None, 10)).items == []
    for name, found, (_, _, status) in zip(SLOW, every, SLOW.values(), strict=True):
        assert found.status == status, (name, found)
        # an answer that needs no body is given at once
        least_s = 0 if status == 404 else DEADLINE_S * 0.9
        assert least_s < found.after_s < DEADLINE_S + SLACK_S, (name, found)


async def test_many_slow_clients_hold_up_nobody_else():
    """Two hundred that dawdle in every way: a quick request is answered as if they were not."""
    ways = [data for data, _, status in SLOW.values() if status in (0, 408)]
    async with serving() as peer, AsyncExitStack() as stack:
        for number in range(200):
            _, writer = await stack.enter_async_context(connected(peer.server.port))
            writer.write(ways[number % len(ways)])
        response = await peer.post("/agent/invoke", {"message": "quick"})
        assert response.status == 200
        assert peer.server.open_connections > 200


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ((), 4408),
        ((frame(0x9, b"ping"),), 4408),
        ((frame(0x1, b'{"type":"hello"', fin=False),), 4408),
        ((HELLO, frame(0x1, b'{"type":', size=100)), 4009),
        ((HELLO, frame(0x1, b'{"type":', fin=False)), 4009),
        ((HELLO,), 4009),
    ],
    ids=["silent", "pings", "half a hello", "half a frame", "half a message", "no pong"],
)
async def test_slow_websockets_are_closed_at_their_deadline(frames, code):
    """Without a hello in time 4408; without a pong, in the middle of a frame or not, 4009."""
    async with serving(ws=SHORT_WS) as peer, wired(peer.server.port) as wire:
        await wire.send(*frames)
        assert await wire.close_code() == code


async def test_a_slow_handshake_is_closed_at_its_deadline():
    """A WebSocket's head is a head like any other."""
    async with serving(config=SHORT) as peer:
        whole = request("GET", "/v1/ws", "Connection: Upgrade", *HANDSHAKE)
        found = await said(
            peer.server.port, whole[:-2], drip=repeat(b"X: y\r\n", 1_000), every_s=0.02
        )
        assert (found.status, found.after_s < DEADLINE_S + SLACK_S) == (0, True)
