"""Requests as bytes, the way attackers write them, and what comes back for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final, NamedTuple

TURNS: Final = "/v1/sessions/raw/turns"
JSON: Final = "Content-Type: application/json"
HANDSHAKE: Final = (
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol: actorpool.v1",
)


class Said(NamedTuple):
    """Everything that came back until the server closed, and after how many seconds it did."""

    data: bytes
    after_s: float

    @property
    def status(self) -> int:
        """The status of the first answer; 0 if there was none."""
        first = self.data.partition(b"\r\n")[0].split(b" ")
        return int(first[1]) if len(first) > 1 else 0

    @property
    def answers(self) -> int:
        """How many answers there were."""
        return self.data.count(b"HTTP/1.1 ")

    @property
    def head(self) -> bytes:
        """The head of the first answer."""
        return self.data.partition(b"\r\n\r\n")[0]


def request(
    method: str, path: str, *headers: str | bytes, body: bytes = b"", host: str = "localhost"
) -> bytes:
    """A request with these headers, line by line; `host` empty: without one."""
    named = [f"Host: {host}"] if host else []
    lines = [f"{method} {path} HTTP/1.1", *named, *headers, "", ""]
    return b"\r\n".join(_bytes(line) for line in lines) + body


def _bytes(line: str | bytes) -> bytes:
    return line if isinstance(line, bytes) else line.encode()


async def said(port: int, data: bytes, *, drip: Iterable[bytes] = (), every_s: float = 0.0) -> Said:
    """What the server answers to bytes, and to those that follow them drop by drop."""
    async with connected(port) as (reader, writer):
        began = monotonic()
        writer.write(data)
        dripping = asyncio.create_task(_drip(writer, drip, every_s))
        found = bytearray()
        try:
            while part := await reader.read(65_536):
                found += part
        except ConnectionError:
            # closed with something unread
            pass
        finally:
            after_s = monotonic() - began
            dripping.cancel()
            await asyncio.wait([dripping])
        return Said(bytes(found), after_s)


async def _drip(writer: asyncio.StreamWriter, drops: Iterable[bytes], every_s: float) -> None:
    try:
        for drop in drops:
            await asyncio.sleep(every_s)
            writer.write(drop)
            await writer.drain()
    except ConnectionError:
        # that is how it ends
        pass


@asynccontextmanager
async def connected(
    port: int, *, read_bytes: int = 2**16
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server on this machine, of which so much is read without being asked."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=read_bytes)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
