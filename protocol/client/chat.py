"""A conversation over one WebSocket that outlives its connections."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self, Unpack

from protocol.client import events
from protocol.client.backoff import Patience
from protocol.client.errors import (
    ClientError,
    ClosedByServer,
    ConnectionLost,
    ProblemError,
    ProtocolViolation,
)
from protocol.client.events import ClientEvent
from protocol.client.http import Http
from protocol.client.ledger import Ledger
from protocol.client.link import Link, ServerFrame
from protocol.client.models import ClientTurn
from protocol.client.requests import TurnOptions, given, new_key, turn_body


class Chat:
    """Turns are sent, events of all sessions come in order, whatever happens to the connection.

        async with client.chat() as chat:
            await chat.send("s1", "hi")
            async for event in chat:
                ...

    After a broken connection it connects again (with pauses, for as long as the client's
    `retry_for_s`), goes on reading every session after its last event, and sends again what was not
    answered: no event is missed or seen twice, and no turn runs twice.

    What cannot be mended is raised by the iteration and by whatever is called: `ClosedByServer` and
    `ConnectionLost` end the chat. `ProblemError` in the iteration says that one session cannot be
    read; iterate on for the others.
    """

    def __init__(self, http: Http, sessions: Mapping[str, str | None]) -> None:
        self._http = http
        self._ledger = Ledger({sid: at for sid, at in sessions.items() if at is not None})
        self._from_now = [sid for sid, at in sessions.items() if at is None]
        self._link: Link | None = None
        # events, and problems with single sessions; None when there will be no more
        self._inbox: asyncio.Queue[ClientEvent | ProblemError | None] = asyncio.Queue()
        self._waiting: dict[int, asyncio.Future[ServerFrame]] = {}
        self._first_welcome: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        # why the chat has ended, if it was not closed
        self._failure: ClientError | None = None
        self._over = False
        # how long the server asked us to stay away
        self._stay_away_s: float | None = None

    def __repr__(self) -> str:
        state = "over" if self._over else "connected" if self._link else "connecting"
        return f"<Chat {self._http.url} [{state}, {self._ledger!r}]>"

    @property
    def cursors(self) -> dict[str, str]:
        """The last event taken of each session: what to give to `Client.chat` to go on later."""
        return dict(self._ledger.taken)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._first_welcome = loop.create_future()
        self._task = loop.create_task(self._run())
        try:
            await self._first_welcome
            for session_id in self._from_now:
                await self.subscribe(session_id)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ClientEvent:
        item = None if self._over and self._inbox.empty() else await self._inbox.get()
        if item is None:
            if self._failure is not None:
                raise self._failure
            raise StopAsyncIteration
        if isinstance(item, ProblemError):
            raise item
        acknowledgement = self._ledger.take(item)
        if acknowledgement is not None and self._link is not None:
            await self._link.send(acknowledgement)
        return item

    async def close(self) -> None:
        """End the chat. The turns go on, unless they were to be cancelled. May be called twice."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        self._end(None)
        if not task.cancelled():
            task.result()

    # --- commands

    async def send(
        self,
        session_id: str,
        text: str,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[TurnOptions],
    ) -> ClientTurn:
        """Have a turn accepted in a session, and read the session. `ProblemError` if refused."""
        key = idempotency_key if idempotency_key is not None else new_key()
        body = turn_body(text, options)
        frame = await self._command("turn", session_id=session_id, idempotency_key=key, **body)
        return _turn_of(frame)

    async def cancel(self, turn_id: str) -> ClientTurn:
        """Cancel a turn: as it is when it has ended, or is still stopping."""
        return _turn_of(await self._command("cancel", turn_id=turn_id))

    async def approve(
        self,
        turn_id: str,
        call_id: str,
        *,
        reason: str = "",
        arguments: dict[str, Any] | None = None,
    ) -> ClientTurn:
        """Allow a tool call that waits; with `arguments`, only if these are what is waiting."""
        return await self._decide(turn_id, call_id, "approve", reason, arguments)

    async def deny(self, turn_id: str, call_id: str, *, reason: str = "") -> ClientTurn:
        """Refuse a tool call that waits."""
        return await self._decide(turn_id, call_id, "deny", reason, None)

    async def subscribe(self, session_id: str, *, after: str | None = None) -> None:
        """Read a session after a cursor (None: from now on)."""
        await self._command("subscribe", session_id=session_id, **given(after=after))

    async def unsubscribe(self, session_id: str) -> None:
        """Read a session no more."""
        await self._command("unsubscribe", session_id=session_id)

    async def _decide(
        self,
        turn_id: str,
        call_id: str,
        decision: Literal["approve", "deny"],
        reason: str,
        arguments: dict[str, Any] | None,
    ) -> ClientTurn:
        fields = given(reason=reason or None, arguments=arguments, idempotency_key=new_key())
        frame = await self._command(
            "approve", turn_id=turn_id, call_id=call_id, decision=decision, **fields
        )
        return _turn_of(frame)

    async def _command(self, kind: str, **fields: Any) -> ServerFrame:
        if self._over:
            raise self._failure or ConnectionLost("the chat is closed")
        ref = self._ledger.command(kind, **fields)
        answer: asyncio.Future[ServerFrame] = asyncio.get_running_loop().create_future()
        self._waiting[ref] = answer
        try:
            text = self._ledger.text(ref)
            # without a link it is sent after the next welcome
            if self._link is not None:
                self._link.check_size(text)
                await self._link.send(text)
            return await answer
        finally:
            del self._waiting[ref]
            self._ledger.refused(ref)

    # --- the connection

    async def _run(self) -> None:
        patience = self._http.patience()
        failure: ClientError | None = None
        try:
            while failure is None:
                failure = await self._once(patience)
        finally:
            self._end(failure)

    async def _once(self, patience: Patience) -> ClientError | None:
        """One connection, and the pause after it; the error that ends the chat, if one does."""
        try:
            await self._connection(patience)
        except ConnectionLost as lost:
            pause_s = patience.pause_s(self._stay_away_s)
            self._stay_away_s = None
            if pause_s is None:
                return lost
            await asyncio.sleep(pause_s)
        except (ClosedByServer, ProblemError, ProtocolViolation) as final:
            return final
        return None

    async def _connection(self, patience: Patience) -> None:
        link = await Link.open(self._http)
        try:
            hello, again = self._ledger.resume()
            await link.send(hello)
            frame = await link.receive()
            if frame.type != "welcome":
                raise ProtocolViolation(f"the server answered hello with {frame.type}")
            link.welcomed(frame)
            self._ledger.connected(frame.window)
            patience.connected()
            self._link = link
            for text in again:
                await link.send(text)
            if self._first_welcome is not None and not self._first_welcome.done():
                self._first_welcome.set_result(None)
            while True:
                self._receive(await link.receive(), patience)
        finally:
            self._link = None
            await link.close()

    def _receive(self, frame: ServerFrame, patience: Patience) -> None:
        if frame.type == "event":
            event = events.decode(frame.event)
            if self._ledger.event(event):
                patience.reset()
                self._inbox.put_nowait(event)
        elif frame.type == "accepted":
            if frame.ref is not None:
                self._ledger.answered(frame.ref, frame.cursor)
                self._answer(frame)
        elif frame.type == "error" and frame.error is not None:
            self._refused(frame, ProblemError(frame.error))
        elif frame.type == "goodbye":
            self._stay_away_s = frame.reconnect_after_s

    def _refused(self, frame: ServerFrame, error: ProblemError) -> None:
        if frame.session_id is not None:
            self._ledger.forget(frame.session_id)
        if frame.ref is not None:
            self._ledger.refused(frame.ref)
            self._answer(frame)
        else:
            self._inbox.put_nowait(error)

    def _answer(self, frame: ServerFrame) -> None:
        waiting = self._waiting.get(frame.ref) if frame.ref is not None else None
        if waiting is None or waiting.done():
            return
        if frame.error is not None:
            waiting.set_exception(ProblemError(frame.error))
        else:
            waiting.set_result(frame)

    def _end(self, failure: ClientError | None) -> None:
        if self._over:
            return
        self._over = True
        self._failure = failure
        error = failure or ConnectionLost("the chat was closed")
        for waiting in (*self._waiting.values(), self._first_welcome):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)
                # whoever waited may have been cancelled: then nobody is left to hear of it
                waiting.exception()
        self._inbox.put_nowait(None)


def _turn_of(frame: ServerFrame) -> ClientTurn:
    if frame.turn is None:
        raise ProtocolViolation("the server accepted a command about a turn, and left the turn out")
    return frame.turn
