"""A small TCP proxy for tests of broken networks: it forwards, cuts, goes silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """Forwards connections to a port of this machine.

    `connections` counts those that were taken. Each is cut after `cut_after` bytes from the server
    (None: never). While `losing` is set answers are lost: what clients send gets there, and a
    connection is cut when the server answers on it.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.connections = 0
        self.cut_after: int | None = None
        self.losing = False
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()
        self._forwarding = asyncio.Event()
        self._forwarding.set()
        self._accepting = True
        # set, and replaced, with each connection
        self._more = asyncio.Event()

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Cut all connections, without a goodbye."""
        for writer in tuple(self._open):
            writer.transport.abort()

    def refuse(self) -> None:
        """Cut everything, and whatever connects, until `accept`."""
        self._accepting = False
        self.cut()

    def accept(self) -> None:
        """Take connections again."""
        self._accepting = True

    async def connected(self, times: int) -> None:
        """Until so many connections were taken, in all."""
        while self.connections < times:
            await self._more.wait()

    def stop_forwarding(self) -> None:
        """Keep the connections and let nothing through."""
        self._forwarding.clear()

    def forward(self) -> None:
        """Let everything through again."""
        self._forwarding.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        self.connections += 1
        self._more.set()
        self._more = asyncio.Event()
        if not self._accepting:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except ConnectionError:
            writer.transport.abort()
            return
        both = {writer, back}
        self._open |= both
        pumps = [
            asyncio.ensure_future(self._pump(reader, back, None)),
            asyncio.ensure_future(self._pump(there, writer, self.cut_after, answers=True)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            self._open -= both
            for end in both:
                end.transport.abort()
            await asyncio.wait(pumps)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        budget: int | None,
        *,
        answers: bool = False,
    ) -> None:
        try:
            while data := await reader.read(65_536):
                await self._forwarding.wait()
                if answers and self.losing:
                    return
                if budget is not None:
                    data = data[:budget]
                    budget -= len(data)
                if writer.transport.is_closing():
                    return
                writer.write(data)
                await writer.drain()
                if budget == 0:
                    return
            # what was forwarded gets there before the end does
            if not writer.transport.is_closing():
                writer.write_eof()
        except ConnectionError:
            return


@asynccontextmanager
async def proxied(target: int) -> AsyncIterator[Proxy]:
    """A proxy to a port, until the block is left."""
    proxy = Proxy(target)
    serving: set[asyncio.Task[None]] = set()

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(proxy.serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        for task in tuple(serving):
            task.cancel()
        if serving:
            await asyncio.wait(serving)
        await server.wait_closed()
