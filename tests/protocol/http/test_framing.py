"""Where a request ends: what cannot be told is refused, and nothing behind it is read."""

from __future__ import annotations

import asyncio
import re

import pytest
from aiohttp import web

from protocol.config import ServerConfig
from protocol.http.request import Request
from tests.support.serving import Peer, serving

pytestmark = pytest.mark.real_time(10)

TURNS = "/v1/sessions/s1/turns"
LAST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"


def post(*headers: str, path: str = TURNS, version: str = "1.1") -> bytes:
    """The head of a POST as bytes."""
    lines = (f"POST {path} HTTP/{version}", "Host: localhost", *headers, "", "")
    return "\r\n".join(lines).encode()


def statuses(answers: bytes) -> list[int]:
    """The status of each answer."""
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d+) ", answers)]


async def asked_for(peer: Peer, head: bytes, body: bytes) -> bytes:
    """All that is answered to a body that is sent when the server waits for it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", peer.server.port)
    writer.write(head)
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    answers = await reader.read()
    writer.close()
    return answers


@pytest.mark.parametrize(
    "wrong",
    [b"no chunk\r\n", b'8\r\nut":"x"}??', b"8\n", b"0\r\nno trailer\r\n\r\n"],
    ids=["size", "end", "line", "trailer"],
)
async def test_a_body_that_goes_wrong_on_its_way_is_400_at_once(wrong: bytes) -> None:
    """Nobody waits for the rest of it, and nothing behind it is read."""
    async with serving(config=ServerConfig(body_timeout_s=60)) as peer:
        head = post(CHUNKED, "Expect: 100-continue")
        answers = await asked_for(peer, head, b'5\r\n{"inp\r\n' + wrong + LAST)
        assert statuses(answers) == [400]
        assert b"\r\nConnection: close\r\n" in answers
        assert b"the body is not framed as HTTP says" in answers


async def test_an_extra_route_need_not_know_how_a_body_goes_wrong() -> None:
    """Whoever sent it is told, whichever way it was read."""

    async def shout(request: Request) -> web.StreamResponse:
        request.connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return web.Response(text=(await request.text()).upper())

    async with serving(extra_routes={("POST", "/shout"): shout}) as peer:
        answers = await asked_for(peer, post(CHUNKED, path="/shout"), b"3\r\nhey\r\nno chunk\r\n")
        assert statuses(answers) == [400]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        post("Connection: Upgrade", "Upgrade: h2c, websocket", "Content-Length: 13")
        + b'{"input":"x"}',
        b"CONNECT localhost HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["h2c", "body", "connect"],
)
async def test_an_upgrade_to_what_is_not_known_ends_the_connection(head: bytes) -> None:
    """Behind it the other protocol may begin: the first half of a request may be lost there, and
    the rest of it must not be taken for another one."""
    async with serving() as peer:
        answers = await peer.raw(head + post("Content-Length: 98"), LAST)
        assert len(statuses(answers)) == 1
        assert b"\r\nConnection: close\r\n" in answers


async def test_who_was_answered_before_they_sent_their_body_need_not_send_it() -> None:
    """The connection ends, and what follows is not taken for the body."""
    async with serving() as peer:
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.server.port)
        head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        writer.write(head + b"Expect: 100-continue\r\n\r\n")
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"x" * 5 + LAST)
        answer += await reader.read()
        writer.close()
        assert statuses(answer) == [200]
        assert b"\r\nConnection: close\r\n" in answer


async def test_who_speaks_an_older_http_is_not_told_to_go_on() -> None:
    """HTTP/1.0 would take that for the answer."""
    async with serving(config=ServerConfig(body_timeout_s=0.05)) as peer:
        head = post("Content-Length: 13", "Expect: 100-continue", version="1.0")
        assert statuses(await peer.raw(head)) == [408]


async def test_a_body_behind_one_of_very_many_chunks_is_read() -> None:
    """Reading that was to pause where a body ended goes on with the next one."""
    chunks = b"1\r\n{\r\n" * (2**14 + 1) + b"0\r\n\r\n"
    whole = post("Content-Length: 13", "Connection: close") + b'{"input":"x"}'
    async with serving() as peer:
        assert statuses(await peer.raw(post(CHUNKED) + chunks, whole)) == [400, 200]
