"""The way in: from a request to an accepted turn, or a refusal that leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import structlog
from msgspec import Struct
from msgspec.structs import replace

from pool import scope
from pool.config import PoolConfig
from pool.dispatcher import Dispatcher
from pool.doubts import Doubts
from pool.errors import (
    Conflict,
    DeadlineExceeded,
    Draining,
    IdempotencyMismatch,
    LeaseLost,
    NotFound,
    Refused,
    StoreUnavailable,
)
from pool.guard.audit import Audit
from pool.guard.rates import RateState
from pool.guard.switches import Switches
from pool.ids import Ids
from pool.letters import Letters
from pool.live import MAKES_WAY, LiveTurn, Stop
from pool.observer import Observers, TurnAcceptedNotice, TurnMovedNotice, TurnRefusedNotice
from pool.order import InOrder
from pool.replicas import Replicas
from pool.session import Session
from pool.sessions import Sessions
from pool.store.base import Accepted, SessionKey, Store
from pool.store.sharing import CancelTurn
from pool.takeover import Takeover
from pool.turn import ANYONE, Principal, Turn, TurnRequest
from pool.turns import Turns
from pool.vetting import check_chain, check_request
from pool.webhooks import Webhooks

_log = structlog.get_logger("pool.intake")


class Entry(Struct, frozen=True):
    """What became of a request: the turn, whether it is new, and how it runs here (None: it does
    not).
    """

    turn: Turn
    new: bool
    live: LiveTurn | None
    # how the limits of requests stand that were counted for it
    rates: Sequence[RateState] = ()


def told(entry: Entry, rates: Sequence[RateState]) -> Entry:
    """The entry of a request that was counted."""
    return replace(entry, rates=rates) if rates else entry


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
        order: InOrder,
        letters: Letters,
        replicas: Replicas,
        takeover: Takeover,
        doubts: Doubts,
        webhooks: Webhooks | None,
        switches: Switches,
        audit: Audit | None,
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
        self._letters = letters
        self._replicas = replicas
        self._takeover = takeover
        self._doubts = doubts
        self._webhooks = webhooks
        self._switches = switches
        self._audit = audit
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
    ) -> Entry:
        """Accept a turn into a session. `nested`: who asks waits for it, within the turn it runs
        in.
        """
        check_request(request, idempotency_key, self._webhooks)
        if self._audit is not None:
            self._audit.check()
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
            check_chain(parent, name, key, at_most=self._config.max_nesting)
            deadline_s = self._within(parent, deadline_s)
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
        rates: Sequence[RateState] = ()
        try:
            if parent is None and self._billing.ledger.rated:
                rates = await self._billing.ledger.check(principal)
            self._switches.check(dispatcher.name)
            if self._goes_elsewhere(key, dispatcher, parent):
                giving = self._give_away(record, idempotency_key, request_id)
                return told(await self._arrive(giving, key, request), rates)
            self._admit(dispatcher, request, key, deadline_s, parent)
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
            if self._store.suspends:
                return told(await self._arrive(taking, key, request), rates)
            return told(await taking, rates)
        except Refused as refused:
            earlier = await self._earlier(key, request, dispatcher.name, idempotency_key)
            if earlier is not None:
                return told(earlier, rates)
            self._count(dispatcher, refused, record, request_id)
            raise

    async def _arrive(
        self, taking: Coroutine[Any, Any, Entry], key: SessionKey, request: TurnRequest
    ) -> Entry:
        # Once the store has it the turn is ours to run, even if the caller leaves in between.
        entering = self._order.run(key, taking)
        try:
            return await self._order.heard(entering)
        except asyncio.CancelledError:
            if request.on_disconnect == "cancel":
                entering.add_done_callback(self._cancel_entered)
            raise

    def _goes_elsewhere(
        self, key: SessionKey, dispatcher: Dispatcher, parent: LiveTurn | None
    ) -> bool:
        # Where this process would have it wait, another may have an idle actor.
        return (
            bool(self._replicas.others)
            and not (self.closed or dispatcher.has_room() or parent is not None)
            and not self._sessions.unfinished(key)
            and self._replicas.take_room(dispatcher.name)
        )

    async def _give_away(self, record: Turn, idempotency_key: str | None, request_id: str) -> Entry:
        await self._billing.admit(record)
        accepted = await self._accept(record, "", idempotency_key)
        # whoever runs it settles for it
        self._billing.let_go(record)
        if accepted.new and self._observers:
            self._observers.notice(TurnAcceptedNotice(record.agent, record, request_id))
            self._observers.notice(TurnMovedNotice(record.agent, record.id, "given_away"))
        return Entry(accepted.turn, accepted.new, self._turns.live.get(accepted.turn.id))

    async def _take(
        self, live: LiveTurn, key: SessionKey, dispatcher: Dispatcher, idempotency_key: str | None
    ) -> Entry:
        record = live.record
        try:
            live.grant = await self._billing.admit(record)
            accepted = await self._accept(
                self._as_kept(live, dispatcher), self._name, idempotency_key
            )
            session = None
            if accepted.new and not accepted.others:
                self._turns.moving.renewed(self._sessions.get(key), accepted.lease)
                session = self._sessions.claim(key, accepted)
                if session is not None and accepted.lease is None:
                    await self._read_before(session, record, accepted.number)
        except BaseException:
            dispatcher.leave(key.tenant)
            raise
        if session is None or not session.held:
            dispatcher.leave(key.tenant)
            if accepted.others:
                # it was left behind with turns in it: they go before this one
                self._turns.moving.released(self._sessions.get(key), accepted.lease)
                await self._turns.writer.insist(lambda: self._takeover.take(key, new=record.id))
            return self._elsewhere(live, accepted, key)
        live.session = session
        live.start_stored = live.start_stored and accepted.lease is not None
        live.number = accepted.number
        live.loaded = accepted.state
        session.accepted = max(session.accepted, accepted.number)
        self._turns.add(live)
        self._tell_accepted(live)
        return Entry(record, True, live)

    async def _accept(self, record: Turn, owner: str, idempotency_key: str | None) -> Accepted:
        try:
            accepted = await self._store.accept(
                record,
                owner=owner,
                key=idempotency_key,
                reject_busy=record.request.if_busy == "reject",
                with_state=record.agent in self._turns.stateful,
            )
        except StoreUnavailable as error:
            # what is set aside for it stays so, for it may run
            self._billing.let_go(record)
            if self._store.durable and not isinstance(error, LeaseLost):
                self._doubts.turn(record, repeatable=idempotency_key is not None)
            raise
        except BaseException:
            self._billing.withdraw(record)
            raise
        if not accepted.new:
            self._billing.withdraw(record)
        return accepted

    async def _read_before(self, session: Session, record: Turn, number: int) -> None:
        # Turns that others accepted before this one go first.
        if self._store.durable and number > session.accepted + 1:
            try:
                await self._turns.writer.insist(lambda: self._letters.read(session))
            except LeaseLost:
                self._billing.let_go(record)
                raise

    def _elsewhere(self, taken: LiveTurn, accepted: Accepted, key: SessionKey) -> Entry:
        turn = taken.record if accepted.new else accepted.turn
        if accepted.new:
            self._billing.let_go(turn)
            self._tell_accepted(taken)
            if accepted.owner == self._name:
                # the store thinks that the session is here: it was, or an answer was lost
                self._doubts.session(key)
        return Entry(turn, accepted.new, self._turns.live.get(turn.id))

    def _tell_accepted(self, taken: LiveTurn) -> None:
        if self._observers:
            record = taken.record
            self._observers.notice(TurnAcceptedNotice(record.agent, record, taken.request_id))

    def _as_kept(self, live: LiveTurn, dispatcher: Dispatcher) -> Turn:
        # One that starts at once is stored as started, which saves a write of its own.
        record = live.record
        if not self._store.durable:
            return record
        session = self._sessions.get(live.key)
        free = session is None or session.current is None
        if not (free and dispatcher.starts_now):
            return record
        live.start_stored = True
        return replace(record, state="running", attempt=1)

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
        ahead = 0 if request.if_busy in MAKES_WAY else self._sessions.unfinished(key)
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

    def _count(
        self,
        dispatcher: Dispatcher,
        refused: Refused,
        record: Turn,
        request_id: str,
    ) -> None:
        dispatcher.refused[refused.code] += 1
        if self._observers:
            self._observers.notice(
                TurnRefusedNotice(
                    dispatcher.name,
                    refused.code,
                    record.tenant,
                    record.user,
                    record.roles,
                    record.session_id,
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
