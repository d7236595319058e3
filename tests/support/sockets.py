"""WebSockets as tests speak them: through aiohttp, frame by frame, and as plain bytes."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any, cast

import aiohttp
import msgspec
from aiohttp import WSMsgType

from pool import AgentPool, PoolConfig
from pool.store.base import Store
from protocol.config import ServerConfig
from protocol.server import Server
from tests.support.serving import Peer, echo

SUBPROTOCOL = "actorpool.v1"


class Closed(Exception):
    """The server closed the connection."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class Talk:
    """An open WebSocket: `say` sends a command, `hear` gives the next frame."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.welcome: dict[str, Any] = {}

    async def say(self, kind: str, **fields: Any) -> None:
        """Send a command."""
        await self.socket.send_str(msgspec.json.encode({"type": kind, **fields}).decode())

    async def hear(self) -> dict[str, Any]:
        """The next frame; `Closed` when the server has closed."""
        message = await self.socket.receive()
        if message.type is WSMsgType.TEXT:
            frame: dict[str, Any] = msgspec.json.decode(message.data)
            return frame
        raise Closed(self.socket.close_code or 1006, message.extra or "")

    async def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send a command and give its answer; events that come first are passed over."""
        await self.say(kind, **fields)
        return await self.other_than("event")

    async def other_than(self, kind: str) -> dict[str, Any]:
        """The next frame that is not of this type."""
        while True:
            frame = await self.hear()
            if frame["type"] != kind:
                return frame

    async def event(self) -> dict[str, Any]:
        """The next frame, which must be an event: the event."""
        frame = await self.hear()
        assert frame["type"] == "event", frame
        event: dict[str, Any] = frame["event"]
        return event

    async def to_end(self) -> list[dict[str, Any]]:
        """Events up to the next terminal one."""
        found = []
        while True:
            found.append(await self.event())
            if "turn" in found[-1]:
                return found

    async def closed(self) -> Closed:
        """How the server closes; what it says before is passed over."""
        while True:
            try:
                await self.hear()
            except Closed as closed:
                return closed


@asynccontextmanager
async def serving_from(store: Store, agents: Any = echo, **options: Any) -> AsyncIterator[Peer]:
    """A server whose pool has this store, until the block is left."""
    async with AgentPool(agents, store=store, config=PoolConfig(close_deadline_s=0)) as pool:
        server = Server(pool, config=ServerConfig(port=0), random=Random(1), **options)
        await server.start()
        try:
            async with aiohttp.ClientSession() as http:
                yield Peer(server, http)
        finally:
            await server.close()


@asynccontextmanager
async def talking(
    peer: Peer, *, hello: dict[str, Any] | None = None, url: str | None = None, **options: Any
) -> AsyncIterator[Talk]:
    """A WebSocket of the server that has said hello (with the fields of `hello`)."""
    async with connected(peer, url=url, **options) as talk:
        talk.welcome = await talk.ask("hello", **(hello or {}))
        assert talk.welcome["type"] == "welcome", talk.welcome
        yield talk


@asynccontextmanager
async def connected(peer: Peer, *, url: str | None = None, **options: Any) -> AsyncIterator[Talk]:
    """A WebSocket of the server on which nothing was said yet."""
    options.setdefault("protocols", (SUBPROTOCOL,))
    async with peer.http.ws_connect((url or peer.server.url) + "/v1/ws", **options) as socket:
        yield Talk(socket)


def frame(
    opcode: int, payload: bytes, *, fin: bool = True, bits: int = 0, size: int | None = None
) -> bytes:
    """A masked client frame; `bits` are the reserved ones, `size` another length than it has."""
    length = len(payload) if size is None else size
    head = bytes([(0x80 if fin else 0) | bits | opcode])
    if length < 126:
        head += bytes([0x80 | length])
    elif length < 65_536:
        head += bytes([0x80 | 126]) + length.to_bytes(2, "big")
    else:
        head += bytes([0x80 | 127]) + length.to_bytes(8, "big")
    # a mask of zeros leaves the payload as it is
    return head + bytes(4) + payload


class Wire:
    """A WebSocket as plain bytes, after the handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *frames: bytes) -> None:
        """Write frames."""
        self.writer.writelines(frames)
        await self.writer.drain()

    async def say(self, kind: str, **fields: Any) -> None:
        """Send a command."""
        await self.send(frame(0x1, msgspec.json.encode({"type": kind, **fields})))

    async def hear(self) -> tuple[int, bytes]:
        """The next frame: its opcode and its payload."""
        head = await self.reader.readexactly(2)
        size = head[1] & 0x7F
        if size > 125:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        return head[0] & 0x0F, await self.reader.readexactly(size)

    async def until(self, words: bytes) -> bytes:
        """The next frame that holds these words."""
        while True:
            _, payload = await self.hear()
            if words in payload:
                return payload

    def stop_reading(self) -> None:
        """Take nothing more from the network, and let the kernel keep little of it."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        cast(asyncio.Transport, self.writer.transport).pause_reading()

    async def close_code(self) -> int:
        """The code with which the server closes; 1006 if it does without one."""
        try:
            while True:
                opcode, payload = await self.hear()
                if opcode == 0x8:
                    return int.from_bytes(payload[:2], "big")
        except (asyncio.IncompleteReadError, ConnectionError):
            return 1006


@asynccontextmanager
async def wired(port: int, *, read_bytes: int = 2**16, **headers: str) -> AsyncIterator[Wire]:
    """A WebSocket of a server on this machine, after its handshake, as plain bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=read_bytes)
    fields = {
        "Host": f"127.0.0.1:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Protocol": SUBPROTOCOL,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = ["GET /v1/ws HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head, head
        yield Wire(reader, writer)
    finally:
        writer.close()
