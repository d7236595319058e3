"""The end of a connection whose client takes nothing of what was written to it."""

from __future__ import annotations

import asyncio
import socket

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


async def at_leisure(request: Request) -> Reply:
    """Answer with more than a narrow connection holds, and end it: its client may be slow then."""
    narrow(request)
    request.connection.high_water(2**26)
    return Reply(200, b"x" * 2**21, close=True)


async def at_once(request: Request) -> Reply:
    """Answer with more than a narrow connection holds, and keep it: its client must have it."""
    narrow(request)
    return Reply(200, b"x" * 2**21)


def narrow(request: Request) -> None:
    """Have the system hold little of what a client does not take."""
    assert request.connection.transport is not None
    sock = request.connection.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**15)


@pytest.mark.parametrize("path", ["/leisure", "/once"])
async def test_who_takes_some_of_it_again_and_again_gets_all_of_it(path: str) -> None:
    """It takes three times `slow_reader_s` in all, as a large answer on a slow line does."""
    routes = {("GET", "/leisure"): at_leisure, ("GET", "/once"): at_once}
    async with serving(config=ServerConfig(slow_reader_s=0.5), extra_routes=routes) as peer:
        loop = asyncio.get_running_loop()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**15)
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", peer.server.port))
            await loop.sock_sendall(
                client, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            )
            left, began = 2**21, loop.time()
            while left > 0 and (data := await loop.sock_recv(client, 2**16)):
                left -= len(data)
                # as slow as the line would be, whatever this machine's is
                share = 1 - max(left, 0) / 2**21
                await asyncio.sleep(began + share * 1.5 - loop.time())
        assert left <= 0


async def test_who_takes_it_slowly_gets_all_of_it() -> None:
    """What was written is sent before the connection ends."""
    async with serving(extra_routes={("GET", "/much"): much}) as peer:
        answer = await peer.raw(
            b"GET /much HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        assert answer.endswith(b"\r\n\r\n" + b"x" * 2**25)
