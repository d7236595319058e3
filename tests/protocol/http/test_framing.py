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
