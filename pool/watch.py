"""What can be done with an accepted turn: wait for it, watch it, cancel it, decide for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, Literal

from pool.errors import Conflict, NotFound
from pool.events import Cursor, Event
from pool.live import LiveTurn, Stop
from pool.reader import Reader
from pool.records import Records
from pool.sessions import Sessions
from pool.store.base import SessionKey
from pool.turn import ANYONE, Principal, Turn
from pool.turns import Turns

# How long `cancel` waits for an agent that obeys at once, in seconds.
_OBEYS_S = 0.25


class Watch(Records):
    """Follows turns and sessions; the part of a pool that accepts nothing."""

    _loop: asyncio.AbstractEventLoop
    _sessions: Sessions
    _turns: Turns

    async def turn(self, turn_id: str, *, principal: Principal = ANYONE) -> Turn:
        """A turn as it is now (a copy, while it has not ended); `NotFound` if there is none."""
        live = self._turns.live.get(turn_id)
        if live is None or live.tenant != principal.tenant:
            return await super().turn(turn_id, principal=principal)
        if live.phase == "ending":
            # how it ends is only certain when the store has it
            await self._ended(live)
        return live.snapshot()

    async def wait(
        self,
        turn_id: str,
        *,
        timeout_s: float | None = None,
        until_paused: bool = False,
        principal: Principal = ANYONE,
    ) -> Turn:
        """The turn when it ended (or paused, if `until_paused`), or as it is after `timeout_s`."""
        live = self._turns.live.get(turn_id)
        if live is None or live.tenant != principal.tenant:
            return await self.turn(turn_id, principal=principal)
        if timeout_s is None:
            await self._ended(live, until_paused=until_paused)
        else:
            waiting = asyncio.ensure_future(self._ended(live, until_paused=until_paused))
            try:
                await asyncio.wait([waiting], timeout=timeout_s)
                if waiting.done():
                    waiting.result()
            finally:
                waiting.cancel()
        return live.snapshot()

    async def events(
        self,
        turn_id: str,
        *,
        after: Cursor | str | None = None,
        principal: Principal = ANYONE,
    ) -> AsyncGenerator[Event, None]:
        """The turn's events from its first, or after a cursor: what was, then what comes, to its
        end.
        """
        if isinstance(after, str):
            after = Cursor.parse(after)
        reader = await self.watch_turn(turn_id, after=after, principal=principal)
        try:
            while not reader.ended:
                for event in await reader.take():
                    yield event
                await reader.wait()
        finally:
            reader.close()

    async def cancel(self, turn_id: str, *, principal: Principal = ANYONE) -> Turn:
        """Cancel a turn: as it is when it has ended, or after an instant if its agent takes longer.

        Cancelling an ended turn changes nothing.
        """
        live = self._turns.live.get(turn_id)
        if live is not None and live.tenant == principal.tenant:
            self._turns.stop(live, Stop("cancelled"))
        return await self.wait(turn_id, timeout_s=_OBEYS_S, principal=principal)

    async def decide(
        self,
        turn_id: str,
        call_id: str,
        decision: Literal["approve", "deny"],
        *,
        reason: str = "",
        arguments: dict[str, Any] | None = None,
        principal: Principal = ANYONE,
    ) -> Turn:
        """Approve or deny a pending tool call, once.

        `arguments`, if given, must be those that wait for approval. `Conflict` if the call does not
        wait (any more), `NotFound` for an unknown turn.
        """
        live = self._turns.live.get(turn_id)
        if live is None or live.tenant != principal.tenant:
            turn = await self.turn(turn_id, principal=principal)
            raise Conflict(f"turn {turn.id} is {turn.state}: no call of it waits for a decision")
        await self._turns.approvals.decide(
            live, call_id, decision, by=principal, reason=reason, arguments=arguments
        )
        return live.snapshot()

    async def watch_turn(
        self,
        turn_id: str,
        *,
        after: Cursor | None = None,
        principal: Principal = ANYONE,
        wake: Callable[[], None] | None = None,
    ) -> Reader:
        """A reader of one turn, from its first event or after a cursor."""
        turn = await self.turn(turn_id, principal=principal)
        start = await self.store.turn_start(turn_id)
        if start is None:
            raise NotFound(f"the events of turn {turn_id} are no longer kept")
        cursor = start if after is None else after
        reader = await self._reader(
            SessionKey(turn.tenant, turn.session_id), cursor, turn_id=turn_id, wake=wake
        )
        try:
            await reader.look()
        except BaseException:
            reader.close()
            raise
        return reader

    async def watch_session(
        self,
        session_id: str,
        *,
        after: Cursor | None = None,
        principal: Principal = ANYONE,
        wake: Callable[[], None] | None = None,
    ) -> Reader:
        """A reader of everything in a session, from now on or after a cursor."""
        return await self._reader(self._key(session_id, principal), after, turn_id=None, wake=wake)

    async def _reader(
        self,
        key: SessionKey,
        after: Cursor | None,
        *,
        turn_id: str | None,
        wake: Callable[[], None] | None,
    ) -> Reader:
        session = self._sessions.get(key)
        if session is None:
            info = await self.store.session(key)
            if info is None:
                raise NotFound(f"there is no session {key.id}")
            session = self._sessions.open(key, Cursor.parse(info.cursor))
        cursor = session.log.visible_end if after is None else after
        return Reader(
            session,
            self.store,
            cursor,
            turn_id=turn_id,
            wake=wake,
            wall=self._turns.wall,
            closed=self._sessions.settle,
        )

    async def _ended(self, live: LiveTurn, *, until_paused: bool = True) -> None:
        while not live.over:
            if until_paused and live.phase == "waiting" and live.record.pending:
                return
            waiter = self._loop.create_future()
            live.waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in live.waiters:
                    live.waiters.remove(waiter)
        if live.failure is not None:
            raise live.failure
