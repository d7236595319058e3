"""A connection from one request to the next: what is answered behind what, and when it ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
from contextvars import ContextVar

import pytest
from aiohttp import web
from aiohttp.streams import StreamReader

from protocol.config import ServerConfig
from protocol.http.request import Request
from tests.support.serving import serving, until
from tests.support.serving_agents import Held

pytestmark = pytest.mark.real_time

TURNS = "/v1/sessions/s1/turns"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
WHOLE = (
    b'POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n{"input":"x"}'
    % TURNS.encode()
)
CHUNKED = (
    b"POST %b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'5\r\n{"inp\r\n8\r\nut":"x"}\r\n0\r\n\r\n'
) % TURNS.encode()
LAST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def statuses(answers: bytes) -> list[int]:
    """The status of each answer."""
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d+) ", answers)]


async def test_more_requests_than_are_kept_are_all_answered() -> None:
    """Reading stops while too many wait behind one that takes long, and then goes on."""
    held = Held()
    body = b'{"input":"x"}'
    slow = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n" % TURNS.encode()
    async with serving(held) as peer:
        sent = slow + body + HEALTH * 2_000 + LAST
        answers = asyncio.ensure_future(peer.raw(sent))
        await held.running.wait()
        held.release.set()
        assert statuses(await answers) == [200] * 2_002


@pytest.mark.parametrize(
    "request_bytes",
    [HEALTH, WHOLE, WHOLE + HEALTH, CHUNKED + WHOLE, HEALTH + CHUNKED],
    ids=["no body", "body", "pipelined", "body behind chunks", "chunks"],
)
async def test_half_a_head_behind_a_request_has_a_heads_deadline(request_bytes: bytes) -> None:
    """Whether it came with the request or while that was answered; not the time of idle ones."""
    config = ServerConfig(header_timeout_s=0.05, keepalive_s=20)
    for parts in ((request_bytes + b"GET /hea",), (request_bytes, b"GET /health HTTP/1.1\r\n")):
        async with serving(config=config) as peer:
            answers = await asyncio.wait_for(peer.raw(*parts), 5)
            assert set(statuses(answers)) == {200}


async def test_half_a_head_behind_a_turn_has_its_time_when_its_turn_comes() -> None:
    """A turn that takes longer than a head may is not cut off for what waits behind it."""

    async def slow(text: str) -> str:
        await asyncio.sleep(0.2)
        return text

    async with serving(slow, config=ServerConfig(header_timeout_s=0.05, keepalive_s=20)) as peer:
        answers = await asyncio.wait_for(peer.raw(WHOLE, b"GET /hea"), 5)
        assert statuses(answers) == [200]


@pytest.mark.parametrize(
    "parts",
    [
        (HEALTH,),
        (HEALTH[:-2], HEALTH[-2:]),
        (WHOLE,),
        (WHOLE[:-13], WHOLE[-13:-5], WHOLE[-5:]),
        (CHUNKED[:-1], CHUNKED[-1:]),
        (HEALTH + WHOLE, CHUNKED + WHOLE),
    ],
    ids=["no body", "lines", "body", "body later", "chunks", "pipelined"],
)
async def test_a_connection_with_nothing_behind_its_request_is_idle(parts: tuple[bytes]) -> None:
    """However the request came: it is kept for `keepalive_s`, not for the time of a head."""
    async with serving(config=ServerConfig(header_timeout_s=0.05, keepalive_s=20)) as peer:
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.server.port)
        for part in parts:
            writer.write(part)
            await writer.drain()
            # so that each part is read by itself
            assert (await peer.get("/health")).status == 200
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(-1), 0.3)
        writer.close()


async def test_bodies_of_all_kinds_follow_each_other() -> None:
    """Whole, in chunks, none: each ends where it ends, also where nobody read it."""
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\n" % TURNS.encode()
    whole = head + b'Content-Length: 13\r\n\r\n{"input":"x"}'
    chunked = head + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"inp\r\n8\r\nut":"x"}\r\n0\r\n\r\n'
    unread = b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nGET "
    async with serving() as peer:
        answers = await peer.raw(whole, chunked + unread + whole, HEALTH, unread, LAST)
        assert statuses(answers) == [200, 200, 404, 200, 200, 404, 200]


async def test_a_refused_upgrade_is_not_the_end() -> None:
    """What the client sent behind it is read as the HTTP that it is."""
    upgrade = (
        b"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with serving() as peer:
        assert statuses(await peer.raw(upgrade + HEALTH, LAST)) == [400, 200, 200]


async def test_the_rest_of_a_refused_body_is_read_before_the_end() -> None:
    """So that its sender, who is still at it, gets to read why."""
    async with serving(config=ServerConfig(max_body_bytes=1_000)) as peer:
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.server.port)
        head = f"POST {TURNS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n"
        writer.write(head.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 413 ")
        writer.write(b"x" * 2_000_000)
        await writer.drain()
        assert b"too_large" in await reader.read()
        writer.close()


async def test_a_body_that_goes_wrong_after_its_answer_ends_the_connection() -> None:
    """It cannot be told where the next request would begin."""
    async with serving() as peer:
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.server.port)
        writer.write(
            b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"no chunk\r\n")
        assert statuses(await reader.read()) == []
        writer.close()


async def test_an_extra_route_has_all_of_the_library() -> None:
    """It may read the body its own way and stream its answer; the connection is kept."""

    async def shout(request: Request) -> web.StreamResponse:
        text = await request.text()
        response = web.StreamResponse(headers={"X-Remote": str(request.remote)})
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(text.upper().encode())
        return response

    async with serving(extra_routes={("POST", "/shout"): shout}) as peer:
        for _ in range(2):
            response = await peer.request("POST", "/shout", data=b"hey")
            assert await response.text() == "HEY"
            assert response.headers["X-Remote"] == "127.0.0.1"
            assert response.headers["X-Request-ID"]
        assert peer.server.open_connections == 1


async def test_what_an_extra_route_sets_ends_with_it() -> None:
    """Context variables do not reach the next request of the connection."""
    seen: ContextVar[int] = ContextVar("seen", default=0)

    async def count(request: Request) -> web.StreamResponse:
        seen.set(seen.get() + 1)
        return web.Response(text=str(seen.get()))

    async with serving(extra_routes={("GET", "/count"): count}) as peer:
        assert [await (await peer.get("/count")).text() for _ in range(2)] == ["1", "1"]
        assert peer.server.open_connections == 1


async def test_an_answer_that_cannot_be_written_ends_its_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged, and others are served."""

    async def split(request: Request) -> web.StreamResponse:
        return web.Response(headers={"X-Split": "a\r\nb"})

    async with serving(extra_routes={("GET", "/split"): split}) as peer:
        with caplog.at_level(logging.ERROR, logger="aiohttp.server"):
            request = b"GET /split HTTP/1.1\r\nHost: localhost\r\n\r\n"
            assert await peer.raw(request) == b""
        assert "an answer could not be written" in caplog.text
        assert (await peer.get("/health")).status == 200


async def test_closing_lets_an_answer_end() -> None:
    """A handler has `close_timeout_s` for it; what was pipelined behind it is not begun."""
    held = Held()
    body = b'{"input":"x"}'
    slow = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n" % TURNS.encode()
    async with serving(held, config=ServerConfig(close_timeout_s=20)) as peer:
        answers = asyncio.ensure_future(peer.raw(slow + body + HEALTH))
        await held.running.wait()
        closing = asyncio.ensure_future(peer.server.close())
        await until(lambda: peer.server.draining)
        held.release.set()
        await closing
        assert statuses(await answers) == [200]


async def test_closing_cuts_what_takes_too_long() -> None:
    """After `close_timeout_s` the handler is cancelled."""
    held = Held()
    async with serving(held, config=ServerConfig(close_timeout_s=0.05)) as peer:
        asking = asyncio.ensure_future(peer.raw(b"GET /v1/turns/none HTTP/1.1\r\n"))
        body = b'{"input":"x"}'
        slow = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n"
        answers = asyncio.ensure_future(peer.raw(slow % TURNS.encode() + body))
        await held.running.wait()
        await peer.server.close()
        assert statuses(await answers) == []
        assert await asking == b""


async def test_an_upgrade_whose_body_comes_late_ends_the_connection() -> None:
    """Nobody would read what follows it: the client is not left to wait for an answer."""
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
    upgrade = head + b"Upgrade: websocket\r\nContent-Length: 5\r\n\r\n"
    async with serving() as peer:
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.server.port)
        writer.write(upgrade)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.write(b"hello")
        # to the end of the connection
        await reader.read()
        writer.close()


async def test_what_waits_behind_a_request_is_bounded_in_bytes() -> None:
    """Large bodies are not read by the dozen while one request is answered; all are, in the end."""
    held = Held()
    big = b'{"input":"' + b"x" * 200_000 + b'"}'
    large = WHOLE[:-13].replace(b"13", b"%d" % len(big)) + big
    async with serving(held) as peer:
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.server.port)
        writer.write(WHOLE)
        await held.running.wait()
        writer.write(large * 50 + LAST)
        # nobody tells how much a server has not read: it has had the time when it has answered this
        for _ in range(100):
            assert (await peer.get("/health")).status == 200
        waiting = [found for found in gc.get_objects() if isinstance(found, StreamReader)]
        assert sum(found.total_bytes for found in waiting) < 1_500_000
        held.release.set()
        assert statuses(await reader.read()) == [200] * 52
        writer.close()
