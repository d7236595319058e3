"""A server that speaks Redis's protocol and answers as told: for what real ones rarely do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from hiredis import Reader

# The answer to a command, as bytes of the protocol; None: none.
Answer = Callable[[Sequence[bytes]], bytes | None]

OK = b"+OK\r\n"
TIME = b"*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n"


def echo(words: Sequence[bytes]) -> bytes:
    """The last word of the command."""
    return bulk(words[-1])


def bulk(data: bytes) -> bytes:
    """A text, as the protocol has it."""
    return b"$%d\r\n%b\r\n" % (len(data), data)


class RespServer:
    """`commands` has all that came, `reads` how many commands came together each time.

    TIME is answered by itself, as every connection begins with it; all else by `answer`.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.port = 0
        self.commands: list[list[bytes]] = []
        self.reads: list[int] = []
        self.connections = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._raw: bytes | None = None
        # set, and replaced, with each read
        self._more = asyncio.Event()

    async def got(self, count: int) -> None:
        """Until so many commands came, in all."""
        while len(self.commands) < count:
            await self._more.wait()

    @property
    def url(self) -> str:
        """What a store is told."""
        return f"redis://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Cut all connections, without a goodbye."""
        for writer in tuple(self._open):
            writer.transport.abort()

    def answer_raw(self, data: bytes) -> None:
        """Say this to whatever comes, and understand nothing."""
        self._raw = data

    def say(self, data: bytes) -> None:
        """Say something that nobody has asked for."""
        for writer in self._open:
            writer.write(data)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        self.connections += 1
        self._open.add(writer)
        parser = Reader()
        try:
            while data := await reader.read(1 << 20):
                if self._raw is not None:
                    writer.write(self._raw)
                    continue
                parser.feed(data)
                self._answer_all(parser, writer)
        except ConnectionError:
            return
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    def _answer_all(self, parser: Reader, writer: asyncio.StreamWriter) -> None:
        count = 0
        while (words := parser.gets()) is not False:
            count += 1
            self.commands.append(words)
            answer = TIME if words[0] == b"TIME" else self.answer(words)
            if answer is not None and not writer.transport.is_closing():
                writer.write(answer)
        self.reads.append(count)
        self._more.set()
        self._more = asyncio.Event()


@asynccontextmanager
async def resp_server(answer: Answer = echo) -> AsyncIterator[RespServer]:
    """A server that answers so, until the block is left."""
    scripted = RespServer(answer)
    serving: set[asyncio.Task[None]] = set()

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(scripted.serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    scripted.port = server.sockets[0].getsockname()[1]
    try:
        yield scripted
    finally:
        server.close()
        scripted.cut()
        for task in tuple(serving):
            task.cancel()
        if serving:
            await asyncio.wait(serving)
        await server.wait_closed()
