"""A real server with a real pool on a free port of this machine, and clients for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import msgspec
from aiohttp import ClientResponse, ClientSession

from pool import AgentPool, PoolConfig
from pool.store.base import Store
from protocol.config import ServerConfig
from protocol.server import Server


async def echo(text: str) -> str:
    """Answer with what was asked."""
    return f"echo: {text}"


class Peer:
    """A server, and a client's session that knows where it is."""

    def __init__(self, server: Server, http: ClientSession) -> None:
        self.server = server
        self.pool = server.pool
        self.http = http

    async def post(self, path: str, body: object = None, **options: Any) -> ClientResponse:
        """POST some JSON and read the whole answer."""
        return await self.request("POST", path, json=body, **options)

    async def get(self, path: str, **options: Any) -> ClientResponse:
        """GET and read the whole answer."""
        return await self.request("GET", path, **options)

    async def request(self, method: str, path: str, **options: Any) -> ClientResponse:
        """Send a request and read the whole answer."""
        async with self.http.request(method, self.server.url + path, **options) as response:
            await response.read()
            return response

    async def turn_id(self, session: str, key: str, text: str, **more: Any) -> str:
        """The id of the turn that was submitted with an idempotency key."""
        headers = {"Idempotency-Key": key, "Prefer": "respond-async"}
        body = {"input": text, **more}
        response = await self.post(f"/v1/sessions/{session}/turns", body, headers=headers)
        found: str = (await response.json())["id"]
        return found

    async def raw(self, *parts: bytes) -> bytes:
        """Send bytes as they are; everything that comes back until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


@asynccontextmanager
async def serving(
    agents: Any = echo,
    *,
    config: ServerConfig | None = None,
    pool: PoolConfig | None = None,
    store: Store | None = None,
    engine: Mapping[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Peer]:
    """A server of `agents` until the block is left; `engine` is more for its pool."""
    config = msgspec.structs.replace(config or ServerConfig(), port=0)
    # a test that ends does not wait for turns
    engine_config = msgspec.structs.replace(pool or PoolConfig(), close_deadline_s=0)
    options_of_pool = {"config": engine_config, "store": store, **(engine or {})}
    async with AgentPool(agents, **options_of_pool) as made:
        server = Server(made, config=config, random=Random(1), **options)
        await server.start()
        try:
            async with ClientSession() as http:
                yield Peer(server, http)
        finally:
            await server.close()


async def until(condition: Callable[[], object]) -> None:
    """Let others run until something is so that nobody tells of."""
    while not condition():  # noqa: ASYNC110 - nobody tells, as said
        await asyncio.sleep(0)


def blocks(text: str) -> list[dict[str, str]]:
    """The blocks of an event stream as their fields; comments are left out."""
    found = []
    for block in text.split("\n\n"):
        lines = [line.partition(": ") for line in block.splitlines() if not line.startswith(":")]
        if lines:
            found.append({name: value for name, _, value in lines})
    return found


def events(text: str) -> list[dict[str, Any]]:
    """The JSON objects of an event stream."""
    return [msgspec.json.decode(block["data"]) for block in blocks(text)]


def types(found: Iterable[dict[str, Any]]) -> list[str]:
    """The types of events."""
    return [event["type"] for event in found]
