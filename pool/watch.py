"""What can be done with an accepted turn: wait for it, watch it, cancel it, decide for it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, Literal

from pool.acceptor import Entry
from pool.decisions import Decisions
from pool.errors import Conflict, Draining, LeaseLost, NotFound, StoreUnavailable
from pool.events import (
    ApprovalDecided,
    ApprovalRequested,
    Cursor,
    Event,
    HistoryLost,
    TurnEnded,
)
from pool.follow import Followers
from pool.live import LiveTurn, Stop
from pool.reader import Reader
from pool.records import Records
from pool.sessions import Sessions
from pool.store.base import SessionKey
from pool.store.sharing import CancelTurn
from pool.turn import ANYONE, Principal, Turn, same_arguments
from pool.turns import Turns

# How long `cancel` waits for an agent that obeys at once, in seconds.
_OBEYS_S = 0.25
# How often a turn that another process runs is looked at, should nothing be heard, in seconds.
_LOOK_S = 1.0
_PAUSES_S = 0.05
# After one of these the turn is looked at in the store.
_TELLING = (TurnEnded, ApprovalRequested, HistoryLost)


class Watch(Records, ABC):
    """Follows turns and sessions; the part of a pool that accepts nothing."""

    _loop: asyncio.AbstractEventLoop
    _sessions: Sessions
    _turns: Turns
    _decisions: Decisions
    _followers: Followers

    @property
    @abstractmethod
    def drained(self) -> bool:
        """Whether the pool takes no more turns, and has given its turns the time they had."""

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
        waiting = self._outcome(turn_id, until_paused=until_paused, principal=principal)
        if timeout_s is None:
            return await waiting
        task = asyncio.ensure_future(waiting)
        try:
            await asyncio.wait([task], timeout=timeout_s)
            if task.done():
                return task.result()
        finally:
            task.cancel()
        live = self._turns.live.get(turn_id)
        if live is not None and live.tenant == principal.tenant:
            return live.snapshot()
        return await super().turn(turn_id, principal=principal)

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
        turn = await self.turn(turn_id, principal=principal)
        if not turn.ended:
            await self._cancel(turn)
        return await self.wait(turn_id, timeout_s=_OBEYS_S, principal=principal)

    async def _cancel(self, turn: Turn) -> None:
        live = self._turns.live.get(turn.id)
        if self.store.durable:
            # said to the store first: it holds for whoever runs the turn next, too
            try:
                await self.store.signal(
                    SessionKey(turn.tenant, turn.session_id), CancelTurn(turn.id)
                )
            except StoreUnavailable:
                if live is None:
                    raise
        if live is not None:
            self._turns.stopping.stop(live, Stop("cancelled"))

    async def decide(
        self,
        turn_id: str,
        call_id: str,
        decision: Literal["approve", "deny"],
        *,
        reason: str = "",
        arguments: dict[str, Any] | None = None,
        repeat: bool = False,
        principal: Principal = ANYONE,
        request_id: str = "",
    ) -> Turn:
        """Approve or deny a pending tool call, once.

        `arguments`, if given, must be those that wait for approval. `Conflict` if the call does not
        wait (any more), `NotFound` for an unknown turn. A `repeat`, by someone who lost the answer,
        of the very decision that was taken, about the arguments that were shown, is no conflict.
        """
        turn = await self.turn(turn_id, principal=principal)
        try:
            await self._decisions.decide(
                turn,
                call_id,
                decision,
                by=principal,
                request_id=request_id,
                reason=reason,
                arguments=arguments,
            )
        except Conflict:
            if not (repeat and await self._decided(turn, call_id, decision, principal, arguments)):
                raise
        return await self.turn(turn_id, principal=principal)

    async def _decided(
        self,
        turn: Turn,
        call_id: str,
        decision: str,
        by: Principal,
        arguments: Mapping[str, Any] | None,
    ) -> bool:
        """Whether this was decided about the call: the call with these arguments, if given."""
        asked = arguments is None
        try:
            async with (
                asyncio.timeout(_LOOK_S),
                aclosing(self.events(turn.id, principal=by)) as events,
            ):
                async for event in events:
                    if isinstance(event, ApprovalRequested) and event.call_id == call_id:
                        asked = arguments is None or same_arguments(event.arguments, arguments)
                    elif isinstance(event, ApprovalDecided) and event.call_id == call_id and asked:
                        return (event.decision, event.by) == (decision, by.user)
        except TimeoutError:
            # there is no such decision in the log so far
            return False
        return False

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
        reader = Reader(
            session,
            self.store,
            cursor,
            turn_id=turn_id,
            wake=wake,
            wall=self._turns.wall,
            closed=self._sessions.settle,
        )
        self._followers.check(session)
        return reader

    async def _answered(self, entry: Entry) -> Turn:
        # The turn that was just accepted, when it has ended or waits for a human.
        turn, live = entry.turn, entry.live
        if live is not None:
            await self._ended(live)
            if not live.moved:
                return live.snapshot()
            self._check_moved(live)
        elif turn.ended or not self.store.durable:
            return turn
        return await self._outcome(turn.id, principal=owner(turn))

    async def _outcome(
        self, turn_id: str, *, until_paused: bool = True, principal: Principal
    ) -> Turn:
        # The turn when it has ended or waits for a human, wherever it runs.
        while (live := self._turns.live.get(turn_id)) is not None:
            if live.tenant != principal.tenant:
                break
            await self._ended(live, until_paused=until_paused)
            if not live.moved:
                return live.snapshot()
            self._check_moved(live)
        turn = await super().turn(turn_id, principal=principal)
        if turn.ended or (until_paused and turn.state == "waiting" and turn.pending):
            return turn
        if not self.store.durable:
            # nobody else could run it
            return turn
        return await self._elsewhere(turn, until_paused=until_paused, principal=principal)

    async def _elsewhere(self, turn: Turn, *, until_paused: bool, principal: Principal) -> Turn:
        reader = await self.watch_session(turn.session_id, principal=principal)
        insist = self._turns.writer.insist
        stored = partial(super().turn, turn.id, principal=principal)
        look_s, looked_at = _LOOK_S, self._loop.time()
        try:
            # it may have ended between what was read before and where the reader begins
            turn = await insist(stored)
            while not (turn.ended or (until_paused and turn.state == "waiting" and turn.pending)):
                self._check_open(turn)
                if turn.id in self._turns.live:
                    return await self._outcome(
                        turn.id, until_paused=until_paused, principal=principal
                    )
                await _wait(reader, look_s)
                due = self._loop.time() - looked_at >= look_s
                events = [e for e in await insist(reader.take) if e.turn_id in (turn.id, "")]
                if any(isinstance(event, ApprovalRequested) for event in events):
                    # that it has paused is stored a moment later, without an event
                    look_s = _PAUSES_S
                if due or any(isinstance(event, _TELLING) for event in events):
                    turn = await insist(stored)
                    looked_at = self._loop.time()
        finally:
            reader.close()
        return turn

    def _check_moved(self, live: LiveTurn) -> None:
        if not self.store.durable:
            raise LeaseLost(
                f"session {live.record.session_id} was claimed by another pool", turn_id=live.id
            )

    def _check_open(self, turn: Turn) -> None:
        if self.drained:
            raise Draining(
                "this server is shutting down; the turn goes on, here after a restart or in "
                "another process: ask for it again",
                retry_after_s=1.0,
                turn_id=turn.id,
            )

    async def _ended(self, live: LiveTurn, *, until_paused: bool = True) -> None:
        while not live.over:
            if until_paused and live.phase == "waiting" and live.record.pending:
                return
            waiter = self._loop.create_future()
            live.waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter in live.waiters:
                    live.waiters.remove(waiter)
                raise
        if live.failure is not None:
            raise live.failure


def owner(turn: Turn) -> Principal:
    """In whose name a turn is looked for that its own caller waits for."""
    return Principal(turn.tenant, turn.user)


async def _wait(reader: Reader, timeout_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await reader.wait()
