"""One client's connection: hello, then its commands, one after the other, until it ends.

Events are sent beside this by the `Sender`: a command that has to wait holds up the later commands
of its own connection, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import structlog

from pool import AgentPool
from pool.errors import NotFound, PoolError, TooLarge
from pool.events import Cursor, Event
from pool.turn import Principal, Turn
from protocol.problems import problem_of
from protocol.ws import commands, frames
from protocol.ws.commands import BadCommand, BadFrame, Ref
from protocol.ws.connections import Connections
from protocol.ws.sender import Sender
from protocol.ws.socket import Socket
from protocol.ws.subscription import Subscription
from protocol.ws.tickets import Tickets

_log = structlog.get_logger("protocol.ws")


class Connection:
    """A client and what it reads. `principal` is None until it is known."""

    __slots__ = (
        "_busy",
        "_cancel_at_end",
        "_connections",
        "_pool",
        "_sender",
        "_socket",
        "_tickets",
        "greeted",
        "id",
        "principal",
    )

    def __init__(
        self,
        connection_id: str,
        socket: Socket,
        *,
        pool: AgentPool,
        principal: Principal | None,
        connections: Connections,
        tickets: Tickets,
        flush_s: float,
    ) -> None:
        self.id = connection_id
        self.principal = principal
        # whether the client has said hello, and was welcome
        self.greeted = False
        self._socket = socket
        self._pool = pool
        self._connections = connections
        self._tickets = tickets
        # a command is being carried out, and nothing is read meanwhile
        self._busy = False
        # turns that end with this connection
        self._cancel_at_end: dict[str, None] = {}
        self._sender = Sender(
            socket,
            flush_s=flush_s,
            stalled=connections.stalled,
            failed=self._lost,
            passed=self._ended,
        )

    def __repr__(self) -> str:
        state = "closing" if self._socket.closing else "open" if self.greeted else "new"
        return f"<Connection {self.id} [{state}, {len(self._sender)} sessions]>"

    async def run(self) -> None:
        """Serve the client until it or we end it."""
        loop = asyncio.get_running_loop()
        hello = loop.call_later(self._connections.config.hello_timeout_s, self._no_hello)
        self._connections.add(self)
        try:
            while (text := await self._socket.receive()) is not None:
                self._busy = True
                await self._take(text)
                self._busy = False
                if self.greeted:
                    hello.cancel()
        except ConnectionError:
            # the peer is gone: there is nobody to tell
            pass
        except Exception:
            _log.exception("connection failed", connection_id=self.id)
            self.close(frames.INTERNAL, "the server failed; resume from your cursors")
        finally:
            hello.cancel()
            self._end()

    def write(self, data: bytes) -> None:
        """Send frames."""
        self._socket.write(data)

    def close(self, code: int, reason: str) -> None:
        """Close the connection; it ends when the client has answered, or its grace is over."""
        self._socket.close(code, reason)

    @property
    def idle(self) -> bool:
        """Whether all that can be sent is sent."""
        return self._sender.idle

    async def flush(self) -> None:
        """Send all that can be sent now."""
        await self._sender.flush()

    def beat(self) -> None:
        """An interval of the heartbeat is over."""
        if self._busy or self._socket.closing:
            return
        if self._socket.pulse.beat():
            self._socket.write(frames.ping())
        else:
            self.close(frames.HEARTBEAT_MISSED, "two pings were not answered; you can resume")

    # --- commands

    async def _take(self, text: str) -> None:
        try:
            command = commands.decode(text)
        except BadFrame as bad:
            self.close(frames.BAD_FRAME, str(bad))
            return
        except BadCommand as bad:
            if not self.greeted and bad.kind != "hello":
                self.close(frames.BAD_FRAME, "say hello first")
            else:
                self._refuse(bad.ref, bad.problem)
            return
        if self.greeted == isinstance(command, commands.Hello):
            self.close(frames.BAD_FRAME, "say hello once" if self.greeted else "say hello first")
            return
        try:
            await _CARRY_OUT[type(command)](self, command)
        except PoolError as error:
            self._refuse(command.ref, error)
        except ConnectionError:
            raise
        except Exception as error:
            _log.exception("command failed", connection_id=self.id, command=type(command).__name__)
            self._refuse(command.ref, error)

    async def _hello(self, command: commands.Hello) -> None:
        if not self._authenticate(command.ticket):
            return
        self.greeted = True
        config = self._connections.config
        self.write(
            frames.welcome(
                command.ref,
                connection_id=self.id,
                heartbeat_s=config.heartbeat_s,
                max_frame_bytes=config.max_frame_bytes,
                window=config.window,
            )
        )
        self._connections.greet(self)
        for session_id, cursor in command.sessions.items():
            try:
                await self._read(session_id, _cursor(cursor))
            except PoolError as error:
                self._refuse(None, error, session_id)

    def _authenticate(self, ticket: str | None) -> bool:
        if ticket is not None:
            try:
                owner = self._tickets.redeem(ticket)
            except PoolError as error:
                self.close(frames.UNAUTHENTICATED, error.detail)
                return False
            if self.principal is not None and self.principal != owner:
                self.close(frames.FORBIDDEN, "the ticket is somebody else's")
                return False
            self.principal = owner
        if self.principal is None:
            self.close(frames.UNAUTHENTICATED, "give a header or a ticket that says who you are")
        return self.principal is not None

    async def _turn(self, command: commands.AskTurn) -> None:
        subscription = self._sender.get(command.session_id)
        if subscription is None:
            self._check_room()
        else:
            # its events come after the answer
            subscription.hold()
        try:
            turn = await self._accept(command)
            self.write(frames.accepted_turn(command.ref, turn))
        finally:
            if subscription is not None:
                subscription.release()
        if self._sender.get(command.session_id) is None:
            await self._read_from_start(turn)

    async def _accept(self, command: commands.AskTurn) -> Turn:
        accept = self._pool.accept(
            command.request(),
            session=command.session_id,
            idempotency_key=command.idempotency_key,
            principal=self._who,
            request_id=self.id,
        )
        if command.on_disconnect == "continue":
            turn, _ = await accept
            return turn
        # The client may leave before the pool has answered: this turn must not go on then.
        accepting = asyncio.ensure_future(accept)
        try:
            turn, new = await asyncio.shield(accepting)
        except asyncio.CancelledError:
            self._connections.run(self._cancel_accepted(accepting, self._who))
            raise
        if new and not turn.ended:
            self._cancel_at_end[turn.id] = None
        return turn

    async def _cancel(self, command: commands.Cancel) -> None:
        turn = await self._pool.cancel(command.turn_id, principal=self._who)
        self.write(frames.accepted_turn(command.ref, turn))

    async def _approve(self, command: commands.Approve) -> None:
        turn = await self._pool.decide(
            command.turn_id,
            command.call_id,
            command.decision,
            reason=command.reason,
            arguments=command.arguments,
            principal=self._who,
        )
        self.write(frames.accepted_turn(command.ref, turn))

    async def _subscribe(self, command: commands.Subscribe) -> None:
        subscription = self._sender.get(command.session_id)
        if subscription is None or command.after is not None:
            try:
                subscription = await self._read(command.session_id, _cursor(command.after))
            except PoolError as error:
                self._refuse(command.ref, error, command.session_id)
                return
        self.write(frames.subscribed(command.ref, str(subscription.cursor)))

    async def _unsubscribe(self, command: commands.Unsubscribe) -> None:
        self._sender.remove(command.session_id)
        self.write(frames.accepted(command.ref))

    async def _ack(self, command: commands.Ack) -> None:
        cursor = Cursor.parse(command.cursor)
        subscription = self._sender.get(command.session_id)
        # without one it crossed an unsubscribe on its way
        if subscription is not None:
            subscription.acknowledge(cursor)

    async def _ping(self, command: commands.Ping) -> None:
        self.write(frames.command_pong(command.ref))

    # --- reading sessions

    async def _read(self, session_id: str, after: Cursor | None) -> Subscription:
        if self._sender.get(session_id) is None:
            self._check_room()
        config = self._connections.config
        subscription = Subscription(session_id, config.window, self._sender.mark)
        reader = await self._pool.watch_session(
            session_id, after=after, principal=self._who, wake=subscription.wake
        )
        if self._socket.closing:
            reader.close()
            raise ConnectionResetError("the connection closed meanwhile")
        self._sender.add(subscription)
        subscription.start(reader, config.high_water_events)
        return subscription

    async def _read_from_start(self, turn: Turn) -> None:
        """Read the turn's session from the turn's first event on."""
        try:
            await self._read(turn.session_id, await self._pool.store.turn_start(turn.id))
        except PoolError as error:
            self._refuse(None, error, turn.session_id)

    def _check_room(self) -> None:
        most = self._connections.config.max_sessions
        if len(self._sender) >= most:
            raise TooLarge(
                f"a connection carries {most} sessions; unsubscribe one, or open another connection"
            )

    def _lost(self, subscription: Subscription, error: Exception) -> None:
        if not isinstance(error, PoolError):
            _log.error("session cannot be read", connection_id=self.id, exc_info=error)
        self._refuse(None, error, subscription.session_id)

    def _ended(self, event: Event) -> None:
        self._cancel_at_end.pop(event.turn_id, None)

    # --- answers, and the end

    @property
    def _who(self) -> Principal:
        if self.principal is None:
            raise RuntimeError("a command was carried out before its caller was known")
        return self.principal

    def _refuse(self, ref: Ref | None, error: Exception, session_id: str | None = None) -> None:
        problem = problem_of(error, request_id=self.id)
        self.write(frames.error(ref, problem, session_id))

    def _no_hello(self) -> None:
        if not self.greeted:
            self.close(frames.NO_HELLO, "no hello in time")

    def _end(self) -> None:
        self._sender.close()
        self._connections.remove(self)
        self._socket.release()
        # After a drain the turns go on elsewhere, and so does the client.
        if self._cancel_at_end and self._socket.closed_with != frames.GOING_AWAY:
            self._connections.run(self._cancel_turns(tuple(self._cancel_at_end), self._who))

    async def _cancel_accepted(
        self, accepting: asyncio.Future[tuple[Turn, bool]], who: Principal
    ) -> None:
        try:
            turn, new = await accepting
        except PoolError:
            # it was not accepted: there is nothing to cancel
            return
        if new:
            await self._cancel_turns((turn.id,), who)

    async def _cancel_turns(self, turn_ids: tuple[str, ...], who: Principal) -> None:
        for turn_id in turn_ids:
            try:
                await self._pool.cancel(turn_id, principal=who)
            except NotFound:
                # its session was deleted meanwhile
                continue
            except PoolError as error:
                _log.warning("turn not cancelled", turn_id=turn_id, code=error.code)


def _cursor(text: str | None) -> Cursor | None:
    return None if text is None else Cursor.parse(text)


_CARRY_OUT: Final[Mapping[type, Callable[[Connection, Any], Awaitable[None]]]] = {
    commands.Hello: Connection._hello,
    commands.AskTurn: Connection._turn,
    commands.Cancel: Connection._cancel,
    commands.Approve: Connection._approve,
    commands.Subscribe: Connection._subscribe,
    commands.Unsubscribe: Connection._unsubscribe,
    commands.Ack: Connection._ack,
    commands.Ping: Connection._ping,
}
