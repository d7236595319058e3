"""From an admitted request to an accepted turn: the store takes it, and it has its place, here or
elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from pool.billing import Billing
from pool.dispatcher import Dispatcher
from pool.doubts import Doubts
from pool.errors import LeaseLost, StoreUnavailable
from pool.guard.rates import RatedRequest
from pool.letters import Letters
from pool.live import LiveTurn
from pool.observer import Observers, TurnAcceptedNotice, TurnMovedNotice
from pool.session import Session
from pool.sessions import Sessions
from pool.store.base import Accepted, SessionKey, Store
from pool.takeover import Takeover
from pool.turn import Turn
from pool.turns import Turns


class Entry(Struct, frozen=True):
    """What became of a request: the turn, whether it is new, and how it runs here (None: it does
    not).
    """

    turn: Turn
    new: bool
    live: LiveTurn | None


class Acceptor:
    """Lets the store of the process `name` accept turns."""

    def __init__(
        self,
        *,
        name: str,
        store: Store,
        sessions: Sessions,
        turns: Turns,
        billing: Billing,
        observers: Observers,
        letters: Letters,
        takeover: Takeover,
        doubts: Doubts,
    ) -> None:
        self._name = name
        self._store = store
        self._sessions = sessions
        self._turns = turns
        self._billing = billing
        # whether anything is set aside for a turn; whether what was accepted outlives the process
        self._limited = not billing.ledger.open
        self._durable = store.durable
        self._observers = observers
        self._tells_accepted = observers.wants(TurnAcceptedNotice)
        self._letters = letters
        self._takeover = takeover
        self._doubts = doubts

    async def give_away(
        self,
        record: Turn,
        idempotency_key: str | None,
        request_id: str,
        request: RatedRequest | None,
    ) -> Entry:
        """Have a turn accepted for whichever process has room for it."""
        await self._billing.admit(record, request)
        accepted = await self._accept(record, "", idempotency_key)
        if accepted.new:
            # whoever runs it settles for it
            self._billing.let_go(record)
            self._observers.notice(TurnAcceptedNotice(record.agent, record, request_id))
            self._observers.notice(TurnMovedNotice(record.agent, record.id, "given_away"))
        live = self._turns.live.get(accepted.turn.id)
        return Entry(accepted.turn, accepted.new, live)

    async def take(
        self,
        live: LiveTurn,
        key: SessionKey,
        dispatcher: Dispatcher,
        idempotency_key: str | None,
        request: RatedRequest | None,
    ) -> Entry:
        """Have a turn accepted for this process. It has a place at its dispatcher; without a place
        in its session, here, it gives that back.
        """
        record = live.record
        kept = record
        session = None
        try:
            if self._limited or request is not None:
                live.grant = await self._billing.admit(record, request)
            if self._durable:
                kept = self._as_kept(live, dispatcher)
            accepted = await self._accept(kept, self._name, idempotency_key)
            lease = accepted.lease
            if lease is not None and not accepted.others:
                self._turns.moving.renewed(self._sessions.get(key), lease)
                session = self._sessions.take(lease, accepted.end)
            elif accepted.new and lease is None:
                session = self._sessions.held_by(key, accepted.owner)
                if session is not None:
                    await self._read_before(session, record, accepted.number)
        except BaseException:
            dispatcher.leave(key.tenant)
            raise
        if session is None or session.lease is None:
            dispatcher.leave(key.tenant)
            if accepted.new:
                # whoever runs it settles for it
                self._billing.let_go(record)
            if accepted.others:
                # it was left behind with turns in it: they go before this one
                self._turns.moving.released(self._sessions.get(key), accepted.lease)
                await self._turns.writer.insist(lambda: self._takeover.take(key, new=record.id))
            return self._elsewhere(live, accepted, key)
        live.session = session
        if lease is None:
            live.stored_usage = None
        live.number = number = accepted.number
        live.loaded = accepted.state
        if number > session.accepted:
            session.accepted = number
        self._turns.add(live)
        if self._tells_accepted:
            self._tell_accepted(live)
        return Entry(record, True, live)

    def _accept(
        self, record: Turn, owner: str, idempotency_key: str | None
    ) -> Coroutine[Any, Any, Accepted]:
        accepting = self._store.accept(
            record,
            owner=owner,
            key=idempotency_key,
            reject_busy=record.request.if_busy == "reject",
            with_state=record.agent in self._turns.stateful,
        )
        if not (self._limited or self._durable):
            # nothing was set aside for it, and nothing is in doubt if this fails
            return accepting
        return self._accept_with_care(accepting, record, idempotency_key)

    async def _accept_with_care(
        self,
        accepting: Coroutine[Any, Any, Accepted],
        record: Turn,
        idempotency_key: str | None,
    ) -> Accepted:
        try:
            accepted = await accepting
        except StoreUnavailable as error:
            # what is set aside for it stays so, for it may run
            self._billing.let_go(record)
            if self._durable and not isinstance(error, LeaseLost):
                self._doubts.turn(record, repeatable=idempotency_key is not None)
            raise
        except asyncio.CancelledError:
            # at the end of the process: the store may have it
            self._billing.let_go(record)
            raise
        except BaseException:
            self._billing.withdraw(record)
            raise
        if not accepted.new:
            self._billing.withdraw(record)
        return accepted

    async def _read_before(self, session: Session, record: Turn, number: int) -> None:
        # Turns that others accepted before this one go first.
        if self._durable and number > session.accepted + 1:
            try:
                await self._turns.writer.insist(lambda: self._letters.read(session))
            except LeaseLost:
                self._billing.let_go(record)
                raise

    def _elsewhere(self, taken: LiveTurn, accepted: Accepted, key: SessionKey) -> Entry:
        turn = taken.record if accepted.new else accepted.turn
        if accepted.new:
            if self._tells_accepted:
                self._tell_accepted(taken)
            if accepted.owner == self._name:
                # the store thinks that the session is here: it was, or an answer was lost
                self._doubts.session(key)
        return Entry(turn, accepted.new, self._turns.live.get(turn.id))

    def _tell_accepted(self, taken: LiveTurn) -> None:
        record = taken.record
        self._observers.notice(TurnAcceptedNotice(record.agent, record, taken.request_id))

    def _as_kept(self, live: LiveTurn, dispatcher: Dispatcher) -> Turn:
        # One that starts at once is stored as started, which saves a write of its own.
        record = live.record
        session = self._sessions.get(live.key)
        free = session is None or session.current is None
        if not (free and dispatcher.starts_now):
            return record
        live.stored_usage = record.usage
        return replace(record, state="running", attempt=1)
