"""The way in: what is asked for is checked, admitted or refused, and given to the acceptor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from pool import scope
from pool.acceptor import Acceptor, Entry
from pool.config import PoolConfig
from pool.dispatcher import Dispatcher
from pool.errors import (
    Conflict,
    DeadlineExceeded,
    Draining,
    IdempotencyMismatch,
    NotFound,
    PoolError,
    RateLimited,
    Refused,
    StoreUnavailable,
)
from pool.guard.audit import Audit
from pool.guard.rates import RatedRequest
from pool.guard.screen import Screen
from pool.guard.screened import look_at
from pool.guard.switches import Switches
from pool.ids import Ids
from pool.live import MAKES_WAY, LiveTurn, Stop
from pool.observer import Observers, TurnRefusedNotice
from pool.order import InOrder, heard
from pool.replicas import Replicas
from pool.sessions import Sessions
from pool.store.base import SessionKey, Store
from pool.store.sharing import CancelTurn
from pool.turn import ANYONE, Principal, Turn, TurnRequest
from pool.turns import Turns
from pool.vetting import check_chain, check_request
from pool.webhooks import Webhooks


class Intake:
    """Validates and admits, or refuses and leaves nothing behind."""

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
        order: InOrder,
        acceptor: Acceptor,
        replicas: Replicas,
        webhooks: Webhooks | None,
        switches: Switches,
        audit: Audit | None,
        screen: Screen | None,
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
        self._order = order
        self._acceptor = acceptor
        self._replicas = replicas
        self._webhooks = webhooks
        self._switches = switches
        self._audit = audit
        self._screen = screen
        self._billing = turns.billing

    async def enter(
        self,
        request: TurnRequest,
        key: SessionKey,
        *,
        idempotency_key: str | None = None,
        principal: Principal = ANYONE,
        request_id: str = "",
        nested: bool = False,
        rated: RatedRequest | None = None,
    ) -> Entry:
        """Accept a turn into a session. `nested`: who asks waits for it, within the turn it runs
        in. `rated`: the request that it counts as, if whoever asks has made that.
        """
        check_request(request, idempotency_key, self._webhooks, self._config)
        parent = self._parent() if nested else None
        if parent is not None and principal is ANYONE:
            principal = parent.principal
            key = SessionKey(principal.tenant, key.id)
        if rated is None and parent is None and self._billing.ledger.rated:
            rated = self._billing.ledger.request(principal)
        dispatcher: Dispatcher | None = None
        try:
            if self._audit is not None:
                self._audit.check()
            name = request.agent
            if name is None:
                # with one agent there is nothing to ask the store
                name = self._default if len(self._dispatchers) == 1 else await self._agent_of(key)
            dispatcher = self._dispatchers.get(name)
            if dispatcher is None:
                names = ", ".join(self._dispatchers)
                raise NotFound(f"there is no agent {name}; there is: {names}")
            if rated is not None:
                self._billing.ledger.check(rated)
            deadline_s = request.deadline_s
            if parent is not None:
                check_chain(parent, name, key, at_most=self._config.max_nesting)
                deadline_s = self._within(parent, deadline_s)
                parent.has_asked = True
            record = Turn(
                id=self._ids.turn(key),
                tenant=key.tenant,
                user=principal.user,
                session_id=key.id,
                agent=dispatcher.name,
                request=request,
                created_at=self._wall(),
                roles=principal.roles,
                at=self._name if request.on_disconnect == "cancel" else "",
            )
            if self._switches.off:
                self._switches.check(dispatcher.name)
            if self._screen is not None:
                await look_at(self._screen, record, request_id, self._observers)
            if self._replicas.others and self._goes_elsewhere(key, dispatcher, parent):
                giving = self._acceptor.give_away(record, idempotency_key, request_id, rated)
                return await self._arrive(giving, key, request)
            if self.closed:
                raise Draining(
                    "the pool is shutting down and takes no more turns", retry_after_s=1.0
                )
            now = self._turns.clock()
            dispatcher.admit(
                tenant=key.tenant,
                priority=request.priority,
                deadline_s=deadline_s,
                ahead_in_session=(
                    0 if request.if_busy in MAKES_WAY else self._sessions.unfinished(key)
                ),
                asker=parent,
                now=now,
            )
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
            taking = self._acceptor.take(live, key, dispatcher, idempotency_key, rated)
            if self._store.suspends:
                return await self._arrive(taking, key, request)
            return await taking
        except PoolError as error:
            refused = await self._rated(rated, error)
            if dispatcher is not None and isinstance(refused, Refused):
                earlier = await self._earlier(key, request, dispatcher.name, idempotency_key)
                if earlier is not None:
                    return earlier
                self._count(dispatcher, refused, principal, key, request_id)
            if refused is error:
                raise
            raise refused from None

    async def _arrive(
        self, taking: Coroutine[Any, Any, Entry], key: SessionKey, request: TurnRequest
    ) -> Entry:
        # Once the store has it the turn is ours to run, even if the caller leaves in between.
        entering = self._order.run(key, taking)
        try:
            return await heard(entering)
        except asyncio.CancelledError:
            if request.on_disconnect == "cancel":
                entering.add_done_callback(self._cancel_entered)
            raise

    def _goes_elsewhere(
        self, key: SessionKey, dispatcher: Dispatcher, parent: LiveTurn | None
    ) -> bool:
        # Where this process would have it wait, another may have an idle actor.
        return (
            not (self.closed or dispatcher.has_room() or parent is not None)
            and not self._sessions.unfinished(key)
            and self._replicas.take_room(dispatcher.name)
        )

    # --- what may be wrong with it

    async def _rated(self, request: RatedRequest | None, error: PoolError) -> PoolError:
        """Count a request that was refused before it was counted; that it is one too many goes
        before what it was refused for. A store that is away counts nothing either.
        """
        if request is not None and request.open and not isinstance(error, StoreUnavailable):
            try:
                self._billing.ledger.check(request)
                await self._billing.ledger.count(request)
            except RateLimited as limited:
                return limited
        return error

    async def _agent_of(self, key: SessionKey) -> str:
        info = await self._store.session(key)
        return self._default if info is None or info.agent is None else info.agent

    def _parent(self) -> LiveTurn | None:
        parent = scope.current.get()
        if parent is None:
            return None
        if parent.phase != "running":
            raise Conflict(f"turn {parent.id} has ended; what is left of it may ask no more")
        # the turn may be another pool's
        return parent if self._turns.live.get(parent.id) is parent else None

    def _within(self, parent: LiveTurn, deadline_s: float) -> float:
        left_s = parent.deadline - self._turns.clock()
        if left_s <= 0:
            raise DeadlineExceeded("the deadline of the turn that asks has passed")
        return min(deadline_s, left_s)

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

    def _count(
        self,
        dispatcher: Dispatcher,
        refused: Refused,
        principal: Principal,
        key: SessionKey,
        request_id: str,
    ) -> None:
        dispatcher.refused[refused.code] += 1
        if self._observers:
            self._observers.notice(
                TurnRefusedNotice(
                    dispatcher.name,
                    refused.code,
                    key.tenant,
                    principal.user,
                    principal.roles,
                    key.id,
                    request_id,
                )
            )

    def _cancel_entered(self, entering: asyncio.Task[Entry]) -> None:
        if entering.cancelled() or entering.exception() is not None:
            return
        entry = entering.result()
        if entry.new:
            self.withdraw(entry)

    def withdraw(self, entry: Entry) -> None:
        """Whoever asked for a turn to be cancelled when they leave has left."""
        if entry.live is not None:
            self._turns.stopping.stop(entry.live, Stop("cancelled"))
        if self._store.durable:
            self._turns.errands.spawn(self._leave_word(entry.turn))

    async def _leave_word(self, turn: Turn) -> None:
        # for whoever runs the turn, should that be another, or become another
        key = SessionKey(turn.tenant, turn.session_id)
        await self._turns.writer.insist(lambda: self._store.signal(key, CancelTurn(turn.id)))
