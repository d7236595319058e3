"""The end of a connection whose client takes nothing of what was written to it."""

from __future__ import annotations

import asyncio

import pytest

from protocol.config import ServerConfig
from protocol.http.reply import Reply
from protocol.http.request import Request
from tests.support.serving import serving, until

pytestmark = pytest.mark.real_time(10)


async def much(request: Request) -> Reply:
    """Answer with more than a connection holds, without waiting for its client."""
    request.connection.high_water(2**26)
    return Reply(200, b"x" * 2**25)


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
async def test_who_takes_nothing_is_cut_off_at_the_end_as_well(connection: str) -> None:
    """After `slow_reader_s`, also where the connection ends anyhow: it would never be over."""
    config = ServerConfig(keepalive_s=0.05, slow_reader_s=0.05)
    async with serving(config=config, extra_routes={("GET", "/much"): much}) as peer:
        _, writer = await asyncio.open_connection("127.0.0.1", peer.server.port, limit=1)
        writer.write(
            f"GET /much HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n".encode()
        )
        await until(lambda: peer.server.open_connections)
        await asyncio.wait_for(until(lambda: not peer.server.open_connections), 5)
        writer.close()


async def test_who_takes_it_slowly_gets_all_of_it() -> None:
    """What was written is sent before the connection ends."""
    async with serving(extra_routes={("GET", "/much"): much}) as peer:
        answer = await peer.raw(
            b"GET /much HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        assert answer.endswith(b"\r\n\r\n" + b"x" * 2**25)
