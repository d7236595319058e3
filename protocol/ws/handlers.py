"""What each command does, for a client that has said hello."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import structlog

from pool import AgentPool
from pool.errors import PoolError, TooLarge
from pool.events import Cursor, Event
from pool.turn import Principal, Turn
from protocol.problems import problem_of
from protocol.ws import commands, frames
from protocol.ws.commands import AnyCommand, Ref
from protocol.ws.config import WsConfig
from protocol.ws.leaving import Leaving, Run
from protocol.ws.sender import Sender
from protocol.ws.socket import Socket
from protocol.ws.subscription import Subscription

_log = structlog.get_logger("protocol.ws")


class Handlers:
    """Carries out the commands of one client, and has what it reads."""

    __slots__ = ("_config", "_id", "_leaving", "_pool", "_principal", "_socket", "sender")

    def __init__(
        self,
        connection_id: str,
        socket: Socket,
        *,
        pool: AgentPool,
        principal: Principal,
        config: WsConfig,
        flush_s: float,
        stalled: set[Sender],
        run: Run,
    ) -> None:
        self._id = connection_id
        self._socket = socket
        self._pool = pool
        self._principal = principal
        self._config = config
        self._leaving = Leaving(pool, principal, run)
        self.sender = Sender(
            socket, flush_s=flush_s, stalled=stalled, failed=self._lost, passed=self._passed
        )

    async def carry_out(self, command: AnyCommand) -> None:
        """Do what the command asks, and answer it. `ConnectionError` if nobody is there now."""
        try:
            await _HANDLERS[type(command)](self, command)
        except PoolError as error:
            self.refuse(command.ref, error)
        except ConnectionError:
            raise
        except Exception as error:
            _log.exception("command failed", connection_id=self._id, command=repr(type(command)))
            self.refuse(command.ref, error)

    async def resume(self, sessions: Mapping[str, str | None]) -> None:
        """Go on reading the sessions of a hello, each after its cursor."""
        for session_id, cursor in sessions.items():
            try:
                await self._read(session_id, _cursor(cursor))
            except PoolError as error:
                self.refuse(None, error, session_id)

    def refuse(self, ref: Ref | None, error: Exception, session_id: str | None = None) -> None:
        """Answer with an error; with a session's id, that session is not read (any more)."""
        self._socket.write(frames.error(ref, problem_of(error, request_id=self._id), session_id))

    def close(self) -> None:
        """The connection has ended. After a drain its turns go on elsewhere, as does its client."""
        self.sender.close()
        if self._socket.closed_with != frames.GOING_AWAY:
            self._leaving.leave()

    # --- commands

    async def _turn(self, command: commands.AskTurn) -> None:
        subscription = self.sender.get(command.session_id)
        if subscription is None:
            self._check_room()
        else:
            # its events come after the answer
            subscription.hold()
        try:
            turn = await self._accept(command)
            self._socket.write(frames.accepted_turn(command.ref, turn))
        finally:
            if subscription is not None:
                subscription.release()
        if self.sender.get(command.session_id) is None:
            await self._read_from_start(turn)

    async def _accept(self, command: commands.AskTurn) -> Turn:
        accept = self._pool.accept(
            command.request(),
            session=command.session_id,
            idempotency_key=command.idempotency_key,
            principal=self._principal,
            request_id=self._id,
        )
        if command.on_disconnect == "cancel":
            return await self._leaving.accepted(accept)
        return (await accept).turn

    async def _cancel(self, command: commands.Cancel) -> None:
        turn = await self._pool.cancel(command.turn_id, principal=self._principal)
        self._socket.write(frames.accepted_turn(command.ref, turn))

    async def _approve(self, command: commands.Approve) -> None:
        turn = await self._pool.decide(
            command.turn_id,
            command.call_id,
            command.decision,
            reason=command.reason,
            arguments=command.arguments,
            repeat=command.idempotency_key is not None,
            principal=self._principal,
            request_id=self._id,
        )
        self._socket.write(frames.accepted_turn(command.ref, turn))

    async def _subscribe(self, command: commands.Subscribe) -> None:
        subscription = self.sender.get(command.session_id)
        if subscription is None or command.after is not None:
            try:
                subscription = await self._read(command.session_id, _cursor(command.after))
            except PoolError as error:
                self.refuse(command.ref, error, command.session_id)
                return
        self._socket.write(frames.subscribed(command.ref, str(subscription.cursor)))

    async def _unsubscribe(self, command: commands.Unsubscribe) -> None:
        self.sender.remove(command.session_id)
        self._socket.write(frames.accepted(command.ref))

    async def _ack(self, command: commands.Ack) -> None:
        cursor = Cursor.parse(command.cursor)
        subscription = self.sender.get(command.session_id)
        # without one it crossed an unsubscribe on its way
        if subscription is not None:
            subscription.acknowledge(cursor)

    async def _ping(self, command: commands.Ping) -> None:
        self._socket.write(frames.command_pong(command.ref))

    # --- reading sessions

    async def _read(self, session_id: str, after: Cursor | None) -> Subscription:
        if self.sender.get(session_id) is None:
            self._check_room()
        subscription = Subscription(session_id, self._config.window, self.sender.mark)
        reader = await self._pool.watch_session(
            session_id, after=after, principal=self._principal, wake=subscription.wake
        )
        if self._socket.closing:
            reader.close()
            raise ConnectionResetError("the connection closed meanwhile")
        self.sender.add(subscription)
        subscription.start(reader, self._config.high_water_events)
        return subscription

    async def _read_from_start(self, turn: Turn) -> None:
        """Read the turn's session from the turn's first event on."""
        try:
            await self._read(turn.session_id, await self._pool.store.turn_start(turn.id))
        except PoolError as error:
            self.refuse(None, error, turn.session_id)

    def _check_room(self) -> None:
        most = self._config.max_sessions
        if len(self.sender) >= most:
            raise TooLarge(
                f"a connection carries {most} sessions; unsubscribe one, or open another connection"
            )

    def _lost(self, subscription: Subscription, error: Exception) -> None:
        if not isinstance(error, PoolError):
            _log.error("session cannot be read", connection_id=self._id, exc_info=error)
        self.refuse(None, error, subscription.session_id)

    def _passed(self, event: Event) -> None:
        self._leaving.ended(event.turn_id)


def _cursor(text: str | None) -> Cursor | None:
    return None if text is None else Cursor.parse(text)


_HANDLERS: Final[Mapping[type, Callable[[Handlers, Any], Awaitable[None]]]] = {
    commands.AskTurn: Handlers._turn,
    commands.Cancel: Handlers._cancel,
    commands.Approve: Handlers._approve,
    commands.Subscribe: Handlers._subscribe,
    commands.Unsubscribe: Handlers._unsubscribe,
    commands.Ack: Handlers._ack,
    commands.Ping: Handlers._ping,
}
