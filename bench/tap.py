"""A tap on the way to a Redis server: it forwards everything, and counts what the server is asked.

Only scripts on the keys of a counted session count: what a replica says for its own sake (beats,
looks for orphans, upkeep) goes by the clock, and not by turns.
"""

from __future__ import annotations

import asyncio
import socket
from threading import Thread
from typing import Final, Self, cast

import uvloop
from hiredis import Reader

# What the ids of counted sessions begin with.
COUNTED: Final = "counted-"
# A command that runs a script begins: EVALSHA, the script, the number of its keys, the first key.
FIRST_KEY: Final = 3
SCRIPT: Final = b"EVALSHA"


class Counts:
    """What went to the server: `scripts`, and `writes`, the pieces that they came in; `all_scripts`
    are those of all keys.
    """

    def __init__(self) -> None:
        self.scripts = 0
        self.all_scripts = 0
        self.writes = 0

    def add(self, commands: list[list[bytes]]) -> None:
        """Take the commands of one piece."""
        mark = COUNTED.encode()
        counted = sum(mark in key for words in commands for key in words[FIRST_KEY : FIRST_KEY + 1])
        self.scripts += counted
        self.writes += counted > 0
        self.all_scripts += sum(words[0] == SCRIPT for words in commands)


class Tap:
    """A port that leads to the server at `target`, in a thread of its own, while the `with` lasts.

    Read `counts` when nobody sends any more.
    """

    def __init__(self, target: int) -> None:
        self.counts = Counts()
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._listening.getsockname()[1]
        self._loop = uvloop.new_event_loop()
        self._stopped = asyncio.Event()
        self._thread = Thread(target=self._run, name="tap")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        clients: list[_Client] = []

        def taken() -> _Client:
            clients.append(_Client(self._target, self.counts))
            return clients[-1]

        async with await self._loop.create_server(taken, sock=self._listening):
            await self._stopped.wait()
            for client in clients:
                client.hang_up()


class _Client(asyncio.Protocol):
    """A connection of a client: what it sends is counted, and sent on."""

    def __init__(self, target: int, counts: Counts) -> None:
        self._target = target
        self._counts = counts
        self._commands = Reader()
        self._client: asyncio.Transport | None = None
        self._server: asyncio.Transport | None = None
        # what came before the server was reached
        self._early: list[bytes] = []
        self._dialling: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect to the server too."""
        self._client = cast(asyncio.Transport, transport)
        self._dialling = asyncio.get_running_loop().create_task(self._dial(self._client))

    async def _dial(self, client: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        server, _ = await loop.create_connection(
            lambda: _Answers(client), "127.0.0.1", self._target
        )
        server.writelines(self._early)
        self._server = server

    def data_received(self, data: bytes) -> None:
        """Count a piece and send it on."""
        if self._server is None:
            self._early.append(data)
        else:
            self._server.write(data)
        self._counts.add(self._whole(data))

    def connection_lost(self, error: Exception | None) -> None:
        """The client has gone: so does the connection to the server."""
        self.hang_up()

    def hang_up(self) -> None:
        """End both connections."""
        for transport in (self._client, self._server):
            if transport is not None:
                transport.abort()

    def _whole(self, data: bytes) -> list[list[bytes]]:
        """The commands that end in this piece."""
        self._commands.feed(data)
        found = []
        while (words := self._commands.gets()) is not False:
            found.append(cast(list[bytes], words))
        return found


class _Answers(asyncio.Protocol):
    """The server's side: what it answers goes to the client."""

    def __init__(self, client: asyncio.Transport) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        """Send a piece on."""
        self._client.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        """The server has hung up: so do we."""
        self._client.close()
