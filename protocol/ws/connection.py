"""One client's connection: hello, then its commands, one after the other, until it ends.

Events are sent beside this by the `Sender`: a command that has to wait holds up the later commands
of its own connection, and nothing else.
"""

from __future__ import annotations

import asyncio

import structlog

from pool import AgentPool
from pool.errors import Forbidden, PoolError, StoreUnavailable
from pool.guard.caller import Caller
from protocol.authenticate.authenticator import Authenticator
from protocol.problems import Unauthenticated, problem_of
from protocol.refusals import note_intruder, note_stranger
from protocol.ws import commands, frames
from protocol.ws.commands import BadCommand, BadFrame, Hello
from protocol.ws.connections import Connections
from protocol.ws.handlers import Handlers
from protocol.ws.socket import Socket
from protocol.ws.tickets import Tickets

_log = structlog.get_logger("protocol.ws")


class Connection:
    """A client, at the address `client`. `caller` is None until it is known who it is."""

    __slots__ = (
        "_authenticator",
        "_busy",
        "_client",
        "_connections",
        "_flush_s",
        "_handlers",
        "_hello",
        "_pool",
        "_socket",
        "_tickets",
        "caller",
        "id",
    )

    def __init__(
        self,
        connection_id: str,
        socket: Socket,
        *,
        pool: AgentPool,
        caller: Caller | None,
        client: str,
        authenticator: Authenticator,
        connections: Connections,
        tickets: Tickets,
        flush_s: float,
    ) -> None:
        self.id = connection_id
        self.caller = caller
        self._client = client
        self._authenticator = authenticator
        self._socket = socket
        self._pool = pool
        self._connections = connections
        self._tickets = tickets
        self._flush_s = flush_s
        # a frame is being dealt with, and nothing is read meanwhile
        self._busy = False
        # what ends a connection without a hello
        self._hello: asyncio.TimerHandle | None = None
        # None until the client has said hello, and was welcome
        self._handlers: Handlers | None = None

    def __repr__(self) -> str:
        state = "closing" if self._socket.closing else "open" if self.greeted else "new"
        sessions = 0 if self._handlers is None else len(self._handlers.sender)
        return f"<Connection {self.id} [{state}, {sessions} sessions]>"

    @property
    def greeted(self) -> bool:
        """Whether the client has said hello, and was welcome."""
        return self._handlers is not None

    @property
    def tenant(self) -> str | None:
        """Whose it is; None until it was welcome."""
        return self.caller.principal.tenant if self.greeted and self.caller else None

    @property
    def idle(self) -> bool:
        """Whether all that can be sent is sent."""
        return self._handlers is None or self._handlers.sender.idle

    def serve(self) -> None:
        """Serve the client until it or we end it."""
        self._connections.add(self)
        timeout_s = self._connections.config.hello_timeout_s
        self._hello = asyncio.get_running_loop().call_later(timeout_s, self._no_hello)
        self._socket.serve(self._run())

    def write(self, data: bytes) -> None:
        """Send frames."""
        self._socket.write(data)

    def close(self, code: int, reason: str) -> None:
        """Close the connection; it ends when the client has answered, or its grace is over."""
        self._socket.close(code, reason)

    def withdraw(self) -> None:
        """What its caller showed counts no more."""
        self.close(frames.UNAUTHENTICATED, "the credentials were withdrawn, or have expired")

    async def flush(self) -> None:
        """Send all events that can be sent now."""
        if self._handlers is not None:
            await self._handlers.sender.flush()

    def beat(self) -> None:
        """An interval of the heartbeat is over."""
        if self._busy or self._socket.closing:
            return
        if self._socket.pulse.beat():
            self._socket.write(frames.ping())
        else:
            self.close(frames.HEARTBEAT_MISSED, "two pings were not answered; you can resume")

    async def _run(self) -> None:
        try:
            while (text := await self._socket.receive()) is not None:
                self._busy = True
                await self._take(text)
                self._busy = False
                # an idle connection keeps nothing of what was said
                del text
        except ConnectionError:
            # the peer is gone: there is nobody to tell
            pass
        except Exception:
            _log.exception("connection failed", connection_id=self.id)
            self.close(frames.INTERNAL, "the server failed; resume from your cursors")
        finally:
            self._forget_hello()
            if self._handlers is not None:
                self._handlers.close()
            self._connections.remove(self)
            self._authenticator.live.remove(self)
            self._socket.release()

    async def _take(self, text: str) -> None:
        try:
            command = commands.decode(text)
        except BadFrame as bad:
            self.close(frames.BAD_FRAME, str(bad))
        except BadCommand as bad:
            if self._handlers is None and bad.kind != "hello":
                self.close(frames.BAD_FRAME, "say hello first")
            else:
                problem = problem_of(bad.problem, request_id=self.id)
                self.write(frames.error(bad.ref, problem))
        else:
            if self._handlers is None:
                await self._greet(command)
            elif isinstance(command, Hello):
                self.close(frames.BAD_FRAME, "say hello once")
            else:
                await self._handlers.carry_out(command)

    async def _greet(self, command: commands.AnyCommand) -> None:
        if not isinstance(command, Hello):
            self.close(frames.BAD_FRAME, "say hello first")
            return
        caller = await self._authenticate(command.ticket)
        # the hello may have taken so long that nobody waits for an answer to it
        if caller is None or self._socket.closing:
            return
        connections = self._connections
        config = connections.config
        if not connections.take_place(caller.principal.tenant):
            self.close(frames.TOO_MANY_CONNECTIONS, "the tenant has too many connections")
            return
        self._forget_hello()
        self.caller = caller
        self._authenticator.live.add(caller, self)
        self._handlers = Handlers(
            self.id,
            self._socket,
            pool=self._pool,
            principal=caller.principal,
            config=config,
            flush_s=self._flush_s,
            stalled=connections.stalled,
            run=connections.run,
        )
        welcome = frames.welcome(
            command.ref,
            connection_id=self.id,
            heartbeat_s=config.heartbeat_s,
            max_frame_bytes=config.max_frame_bytes,
            window=config.window,
        )
        self.write(welcome)
        connections.greet(self)
        await self._handlers.resume(command.sessions)

    async def _authenticate(self, ticket: str | None) -> Caller | None:
        """Who it is; closes the connection and gives None if that is not known."""
        caller = self.caller
        try:
            if ticket is not None:
                caller = await self._tickets.redeem(ticket)
            if caller is None:
                raise Unauthenticated("give a header or a ticket that says who you are")
            # it may have been withdrawn between the handshake, or the ticket, and the hello
            await self._authenticator.check(caller)
        except StoreUnavailable as error:
            self.close(frames.INTERNAL, error.detail)
            return None
        except PoolError as error:
            note_stranger(self._pool.audit, error, self._client, self.id)
            self.close(frames.UNAUTHENTICATED, error.detail)
            return None
        if self.caller is not None and self.caller.principal != caller.principal:
            mixed = Forbidden("the ticket is somebody else's")
            who = self.caller.principal
            note_intruder(self._pool.audit, mixed, who, f"client:{self._client}", self.id)
            self.close(frames.FORBIDDEN, mixed.detail)
            return None
        return caller

    def _forget_hello(self) -> None:
        hello, self._hello = self._hello, None
        if hello is not None:
            hello.cancel()

    def _no_hello(self) -> None:
        if self._handlers is None:
            self.close(frames.NO_HELLO, "no hello in time")
