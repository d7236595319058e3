"""All open WebSockets of a server: their number, their heartbeat, and how they are told to go."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from random import Random
from typing import TYPE_CHECKING, Any, Final

from pool.guard.quota import Quota
from protocol.ws import frames
from protocol.ws.config import WsConfig
from protocol.ws.heartbeat import Heartbeat
from protocol.ws.sender import Sender
from protocol.ws.socket import Socket

if TYPE_CHECKING:
    from protocol.ws.connection import Connection

# Clients that are sent away come back spread over up to twice the time they are told.
_SPREAD: Final = 1.0
# The end of a closed connection is seen a little after its grace.
_MARGIN_S: Final = 1.0
# Of so many connections one may be of somebody who is yet to say who they are.
_STRANGERS: Final = 10


class Connections:
    """The open WebSockets, at most `max_connections`, and of each tenant at most
    `max_connections_per_tenant`; and, with its streams, as many as its `quota` has.
    """

    def __init__(self, config: WsConfig, *, quota: Quota, random: Random | None = None) -> None:
        self.config = config
        self._quota = quota
        # senders whose peers do not keep up
        self.stalled: set[Sender] = set()
        self._random = random if random is not None else Random()
        self._open: dict[Connection, int] = {}
        # of these, of those that were turned away, and of those that have not gone yet
        self._sockets: set[Socket] = set()
        # those that were told to go
        self._going: set[Socket] = set()
        # those of whom nobody knows yet who they are
        self._strangers: set[Connection] = set()
        # of those that have said hello
        self._of_tenant: Counter[str] = Counter()
        self._heartbeat = Heartbeat(config.heartbeat_s, self._check_stalled)
        self._goodbye: tuple[str, float] | None = None
        # set while somebody waits for the last of them
        self._gone: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._open)

    def __repr__(self) -> str:
        return f"<Connections {len(self._open)} open, {len(self.stalled)} stalled>"

    @property
    def sockets(self) -> int:
        """How many sockets are in use, those that are about to end among them."""
        return len(self._sockets)

    @property
    def full(self) -> bool:
        """Whether there are as many as there may be."""
        return len(self._open) >= self.config.max_connections

    @property
    def full_for_strangers(self) -> bool:
        """Whether there are as many as there may be of those who are yet to say who they are: a
        tenth, so that they do not keep out who has said so.
        """
        most = max(1, self.config.max_connections // _STRANGERS)
        return self.full or len(self._strangers) >= most

    def opened(self, socket: Socket) -> None:
        """There is one more socket. It tells `lost` when it is gone."""
        self._sockets.add(socket)

    def lost(self, socket: Socket) -> None:
        """A socket is gone."""
        self._sockets.discard(socket)
        self._going.discard(socket)
        if self._gone is not None and not self._going and not self._gone.done():
            self._gone.set_result(None)

    def add(self, connection: Connection) -> None:
        """A connection was opened."""
        self._open[connection] = self._heartbeat.add(connection)
        if connection.caller is None:
            self._strangers.add(connection)

    def take_place(self, tenant: str) -> bool:
        """A place for a client of the tenant that is about to be welcome; False if there is none.

        The connection gives it back when it ends.
        """
        most = self.config.max_connections_per_tenant
        if self._of_tenant[tenant] >= most or not self._quota.take(tenant):
            return False
        self._of_tenant[tenant] += 1
        return True

    def remove(self, connection: Connection) -> None:
        """A connection has ended."""
        tenant = connection.tenant
        if tenant is not None:
            self._quota.give(tenant)
            self._of_tenant[tenant] -= 1
            if not self._of_tenant[tenant]:
                del self._of_tenant[tenant]
        self._strangers.discard(connection)
        self._heartbeat.remove(connection, self._open.pop(connection))

    def goodbye(self, reason: str, reconnect_after_s: float) -> None:
        """Tell all clients, and those who still come, that the server is about to go."""
        self._goodbye = (reason, reconnect_after_s)
        for connection in tuple(self._open):
            self.greet(connection)

    def greet(self, connection: Connection) -> None:
        """Tell a client that has said hello what all were told."""
        if not connection.greeted:
            return
        self._strangers.discard(connection)
        if self._goodbye is not None:
            reason, after_s = self._goodbye
            after_s *= 1 + _SPREAD * self._random.random()
            connection.write(frames.goodbye(reason, after_s))

    async def close(self) -> None:
        """Send what is ready, close all with 1001; returns when they are gone, or their grace is
        over."""
        await self._flush()
        for connection in tuple(self._open):
            connection.close(frames.GOING_AWAY, "the server is going; resume from your cursors")
        self._going.update(self._sockets)
        if self._going:
            self._gone = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._gone], timeout=self.config.close_grace_s + _MARGIN_S)
        for socket in tuple(self._going):
            socket.abort()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.config.close_grace_s)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that outlives the connection it is about."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        flushing = [loop.create_task(c.flush()) for c in self._open if not c.idle]
        if flushing:
            await asyncio.wait(flushing, timeout=self.config.close_grace_s)
        for task in flushing:
            task.cancel()

    def _check_stalled(self) -> None:
        for sender in tuple(self.stalled):
            sender.check()
