"""The proxy that breaks connections for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.support.proxy import proxied

pytestmark = pytest.mark.real_time(10)


class Echo:
    """A server that answers each line with itself, and keeps what it heard."""

    def __init__(self) -> None:
        self.port = 0
        self.heard: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        while line := await reader.readline():
            self.heard.append(line)
            writer.write(line)
        writer.close()


@asynccontextmanager
async def echoing() -> AsyncIterator[Echo]:
    """An echo server, until the block is left."""
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    echo.port = server.sockets[0].getsockname()[1]
    try:
        yield echo
    finally:
        server.close()
        await server.wait_closed()


async def test_it_forwards_both_ways() -> None:
    """What is said gets there, and so does the answer."""
    async with echoing() as echo, proxied(echo.port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        writer.close()


async def test_answers_are_lost_while_it_loses() -> None:
    """What is said gets there, the answer does not, and the connection is cut; later ones work."""
    async with echoing() as echo, proxied(echo.port) as proxy:
        proxy.losing = True
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"lost\n")
        # cut with a reset or without one, as the kernel sees fit
        with suppress(ConnectionError):
            assert await reader.readline() == b""
        assert echo.heard == [b"lost\n"]
        writer.close()
        proxy.losing = False
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"kept\n")
        assert await reader.readline() == b"kept\n"
        writer.close()
