"""The way in: from a request to an accepted turn, or a refusal that leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from msgspec import Struct

from pool import scope
from pool.config import PoolConfig
from pool.dispatcher import Dispatcher
from pool.errors import (
    Conflict,
    DeadlineExceeded,
    Draining,
    IdempotencyMismatch,
    InvalidRequest,
    NotFound,
    Refused,
)
from pool.ids import Ids
from pool.live import LiveTurn, Stop
from pool.observer import Observers, TurnRefusedNotice
from pool.sessions import Sessions
from pool.store.base import SessionKey, Store
from pool.turn import ANYONE, Principal, Turn, TurnRequest
from pool.turns import Turns

KEY_MAX = 128

# How a turn that does not queue behind the running one ends that.
_MAKES_WAY = {
    "interrupt": Stop("interrupted"),
    "rollback": Stop("cancelled", forgotten=True),
}


class Entry(Struct, frozen=True):
    """What became of a request: the turn, whether it is new, and how it runs here (None: it does
    not).
    """

    turn: Turn
    new: bool
    live: LiveTurn | None


class Intake:
    """Validates, admits, lets the store accept, and gives the turn its place."""

    def __init__(
        self,
        *,
        name: str,
        config: PoolConfig,
        store: Store,
        sessions: Sessions,
        turns: Turns,
        dispatchers: Mapping[str, Dispatcher],
        default_agent: str,
        ids: Ids,
        observers: Observers,
        wall: Callable[[], float],
    ) -> None:
        self.closed = False
        self._name = name
        self._config = config
        self._store = store
        self._sessions = sessions
        self._turns = turns
        self._dispatchers = dispatchers
        self._default = default_agent
        self._ids = ids
        self._observers = observers
        self._wall = wall
        # the last turn of each session that is on its way in
        self._entering: dict[SessionKey, asyncio.Task[Entry]] = {}

    async def enter(
        self,
        request: TurnRequest,
        key: SessionKey,
        *,
        idempotency_key: str | None = None,
        principal: Principal = ANYONE,
        request_id: str = "",
        nested: bool = False,
    ) -> Entry:
        """Accept a turn into a session. `nested`: who asks waits for it, within the turn it runs
        in.
        """
        _check(request, idempotency_key)
        parent = self._parent() if nested else None
        if parent is not None and principal is ANYONE:
            principal = parent.principal
            key = SessionKey(principal.tenant, key.id)
        name = request.agent or await self._agent_of(key)
        dispatcher = self._dispatchers.get(name)
        if dispatcher is None:
            names = ", ".join(self._dispatchers)
            raise NotFound(f"there is no agent {name}; there is: {names}")
        deadline_s = request.deadline_s
        if parent is not None:
            self._check_chain(parent, name, key)
            deadline_s = self._within(parent, deadline_s)
        try:
            self._admit(dispatcher, request, key, deadline_s, parent)
        except Refused as refused:
            earlier = await self._earlier(key, request, dispatcher.name, idempotency_key)
            if earlier is not None:
                return earlier
            self._count(dispatcher, refused, key.tenant)
            raise
        record = Turn(
            id=self._ids.turn(key),
            tenant=key.tenant,
            user=principal.user,
            session_id=key.id,
            agent=dispatcher.name,
            request=request,
            created_at=self._wall(),
        )
        now = self._turns.clock()
        live = LiveTurn(
            record=record,
            tenant=key.tenant,
            priority=request.priority,
            principal=principal,
            request_id=request_id,
            parent=parent,
            accepted_at=now,
            deadline=now + deadline_s,
        )
        taking = self._take(live, key, dispatcher, idempotency_key)
        if not self._store.suspends:
            return await taking
        # Once the store has it the turn is ours to run, even if the caller leaves in between.
        entering = self._turns.spawn(self._in_order(self._entering.get(key), taking))
        self._entering[key] = entering
        entering.add_done_callback(partial(self._entered, key))
        try:
            return await asyncio.shield(entering)
        except asyncio.CancelledError:
            left = self._cancel_entered if request.on_disconnect == "cancel" else _unheard
            entering.add_done_callback(left)
            raise

    async def settled(self, timeout_s: float) -> None:
        """Wait until the store has answered for every turn that is on its way in."""
        if self._entering:
            await asyncio.wait(self._entering.values(), timeout=timeout_s)

    async def _in_order(
        self, before: asyncio.Task[Entry] | None, taking: Coroutine[Any, Any, Entry]
    ) -> Entry:
        # One at a time in a session, so that the store's order is the order here.
        if before is not None:
            await asyncio.wait([before])
        return await taking

    def _entered(self, key: SessionKey, entering: asyncio.Task[Entry]) -> None:
        if self._entering.get(key) is entering:
            del self._entering[key]

    async def _take(
        self, live: LiveTurn, key: SessionKey, dispatcher: Dispatcher, idempotency_key: str | None
    ) -> Entry:
        request = live.record.request
        try:
            accepted = await self._store.accept(
                live.record,
                owner=self._name,
                key=idempotency_key,
                reject_busy=request.if_busy == "reject",
            )
            if not accepted.new:
                dispatcher.leave(key.tenant)
                earlier = accepted.turn
                return Entry(earlier, False, self._turns.live.get(earlier.id))
            session = self._sessions.claim(key, accepted)
        except BaseException:
            dispatcher.leave(key.tenant)
            raise
        live.session = session
        before = session.current
        self._turns.add(live, first=request.if_busy in _MAKES_WAY)
        if before is not None and request.if_busy in _MAKES_WAY:
            self._turns.stop(before, _MAKES_WAY[request.if_busy])
        return Entry(live.record, True, live)

    # --- what may be wrong with it

    async def _agent_of(self, key: SessionKey) -> str:
        # with one agent there is nothing to ask the store
        if len(self._dispatchers) > 1:
            info = await self._store.session(key)
            if info is not None and info.agent is not None:
                return info.agent
        return self._default

    def _parent(self) -> LiveTurn | None:
        parent = scope.current.get()
        if parent is None:
            return None
        if parent.phase != "running":
            raise Conflict(f"turn {parent.id} has ended; what is left of it may ask no more")
        # the turn may be another pool's
        return parent if self._turns.live.get(parent.id) is parent else None

    def _check_chain(self, parent: LiveTurn, agent: str, key: SessionKey) -> None:
        chain = [parent]
        while chain[-1].parent is not None:
            chain.append(chain[-1].parent)
        names = [turn.record.agent for turn in reversed(chain)]
        if agent in names:
            raise Conflict(f"agents ask each other in a circle: {' -> '.join([*names, agent])}")
        if len(chain) >= self._config.max_nesting:
            raise Conflict(f"agents ask each other {len(chain)} deep: {' -> '.join(names)}")
        if any(turn.session.key == key for turn in chain):
            raise Conflict(
                f"session {key.id} is busy with the turn that asks; let the agent asked use another"
            )

    def _within(self, parent: LiveTurn, deadline_s: float) -> float:
        left_s = parent.deadline - self._turns.clock()
        if left_s <= 0:
            raise DeadlineExceeded("the deadline of the turn that asks has passed")
        return min(deadline_s, left_s)

    # --- admission

    def _admit(
        self,
        dispatcher: Dispatcher,
        request: TurnRequest,
        key: SessionKey,
        deadline_s: float,
        asker: LiveTurn | None,
    ) -> None:
        if self.closed:
            raise Draining("the pool is shutting down and takes no more turns", retry_after_s=1.0)
        ahead = 0 if request.if_busy in _MAKES_WAY else self._sessions.unfinished(key)
        dispatcher.admit(
            tenant=key.tenant,
            priority=request.priority,
            deadline_s=deadline_s,
            ahead_in_session=ahead,
            asker=asker,
        )

    async def _earlier(
        self, key: SessionKey, request: TurnRequest, agent: str, idempotency_key: str | None
    ) -> Entry | None:
        # What was accepted before is given again, however full the pool is now.
        if idempotency_key is None:
            return None
        found = await self._store.find_key(key, idempotency_key)
        if found is None:
            return None
        turn, digest = found
        if digest != request.digest(agent):
            raise IdempotencyMismatch(
                "this idempotency key was used in the session with another request; use a new key"
            )
        return Entry(turn, False, self._turns.live.get(turn.id))

    def _count(self, dispatcher: Dispatcher, refused: Refused, tenant: str) -> None:
        dispatcher.refused[refused.code] += 1
        if self._observers:
            self._observers.notice(TurnRefusedNotice(dispatcher.name, refused.code, tenant))

    def _cancel_entered(self, entering: asyncio.Task[Entry]) -> None:
        if not entering.cancelled() and entering.exception() is None:
            live = entering.result().live
            if live is not None and entering.result().new:
                self._turns.stop(live, Stop("cancelled"))


def _unheard(entering: asyncio.Task[Entry]) -> None:
    # Nobody is left to be told how it failed.
    if not entering.cancelled():
        entering.exception()


def _check(request: TurnRequest, idempotency_key: str | None) -> None:
    if idempotency_key is not None and not 1 <= len(idempotency_key) <= KEY_MAX:
        raise InvalidRequest(
            f"an idempotency key has 1 to {KEY_MAX} characters", field="idempotency_key"
        )
    if request.webhook is not None:
        raise InvalidRequest("webhooks are not available on this server", field="webhook")
