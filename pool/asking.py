"""How turns are asked for: wait for the answer, submit, or watch it being given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Unpack

from pool.acceptor import Entry
from pool.events import Event
from pool.guard.rates import RatedRequest
from pool.ids import session_of_key
from pool.intake import Intake
from pool.outcome import raise_for
from pool.store.base import SessionKey
from pool.turn import ANYONE, Principal, Turn, TurnOptions, TurnRequest, request_of
from pool.watch import Watch, owner


class Acceptance:
    """A turn that was accepted; `new` if it is no earlier one with the same idempotency key."""

    __slots__ = ("_answered", "_entry", "new")

    def __init__(self, entry: Entry, answered: Callable[[Entry], Awaitable[Turn]]) -> None:
        self.new: bool = entry.new
        self._entry = entry
        self._answered = answered

    def __repr__(self) -> str:
        return f"<Acceptance of turn {self.id}>"

    @property
    def id(self) -> str:
        """The turn's id."""
        return self._entry.turn.id

    @property
    def request(self) -> TurnRequest:
        """What was asked for."""
        return self._entry.turn.request

    @property
    def turn(self) -> Turn:
        """The turn as it is now (a copy, while it has not ended)."""
        live = self._entry.live
        return self._entry.turn if live is None else live.snapshot()

    def outcome(self) -> Awaitable[Turn]:
        """Wait for the turn: as it is when it has ended, or waits for a human."""
        return self._answered(self._entry)


class Asking(Watch):
    """Has turns accepted; the part of a pool that callers use most."""

    _intake: Intake

    async def ask(
        self,
        input: str,  # noqa: A002 - the word of the protocol
        *,
        session: str | None = None,
        idempotency_key: str | None = None,
        principal: Principal = ANYONE,
        request_id: str = "",
        **options: Unpack[TurnOptions],
    ) -> Turn:
        """Ask an agent and wait for its answer (`turn.output`), or for the turn to pause.

        Raises what the turn ended with: `AgentFailed`, `DeadLetter`, `DeadlineExceeded`; and what
        refused it: `Refused` and its kin. Cancelling the call cancels the turn, unless
        `on_disconnect` is `"continue"`. Called by an agent in its turn, the turn asked for is part
        of it: it shares the permit, the principal and the deadline.
        """
        entry = await self._intake.enter(
            request_of(input, options, on_disconnect="cancel"),
            self._session_key(session, idempotency_key, principal),
            idempotency_key=idempotency_key,
            principal=principal,
            request_id=request_id,
            nested=True,
        )
        try:
            turn = await self._answered(entry)
        except asyncio.CancelledError:
            self._left(entry)
            raise
        if turn.error is not None:
            raise_for(turn)
        return turn

    async def submit(
        self,
        input: str,  # noqa: A002
        *,
        session: str | None = None,
        idempotency_key: str | None = None,
        principal: Principal = ANYONE,
        request_id: str = "",
        **options: Unpack[TurnOptions],
    ) -> Turn:
        """Have a turn accepted and return at once; see `wait`, `events`, `cancel`."""
        accepted = await self.accept(
            request_of(input, options, on_disconnect="continue"),
            session=session,
            idempotency_key=idempotency_key,
            principal=principal,
            request_id=request_id,
        )
        return accepted.turn

    async def stream(
        self,
        input: str,  # noqa: A002
        *,
        session: str | None = None,
        idempotency_key: str | None = None,
        principal: Principal = ANYONE,
        request_id: str = "",
        **options: Unpack[TurnOptions],
    ) -> AsyncGenerator[Event, None]:
        """Ask an agent and watch: the turn's events to its terminal one.

        Leaving the loop early cancels the turn, unless `on_disconnect` is `"continue"`.
        """
        entry = await self._intake.enter(
            request_of(input, options, on_disconnect="cancel"),
            self._session_key(session, idempotency_key, principal),
            idempotency_key=idempotency_key,
            principal=principal,
            request_id=request_id,
            nested=True,
        )
        try:
            async with aclosing(self.events(entry.turn.id, principal=owner(entry.turn))) as events:
                async for event in events:
                    yield event
        finally:
            self._left(entry)

    async def accept(
        self,
        request: TurnRequest,
        *,
        session: str | None = None,
        idempotency_key: str | None = None,
        principal: Principal = ANYONE,
        request_id: str = "",
        rated: RatedRequest | None = None,
    ) -> Acceptance:
        """Have a validated request accepted. `rated`: what it counts as (`pool.ledger.request`);
        whatever becomes of the request, `rated.states` says how the caller's limits stand.
        """
        entry = await self._intake.enter(
            request,
            self._session_key(session, idempotency_key, principal),
            idempotency_key=idempotency_key,
            principal=principal,
            request_id=request_id,
            rated=rated,
        )
        return Acceptance(entry, self._answered)

    # --- how

    def _session_key(
        self, session: str | None, idempotency_key: str | None, principal: Principal
    ) -> SessionKey:
        if session is not None:
            return self._key(session, principal)
        tenant = principal.tenant
        if idempotency_key is not None:
            # the same key finds the same session, and in it the same turn
            return SessionKey(tenant, session_of_key(tenant, idempotency_key))
        return SessionKey(tenant, self._ids.session())

    def _left(self, entry: Entry) -> None:
        """Who asked no longer waits."""
        if entry.new and entry.turn.request.on_disconnect == "cancel":
            self._intake.withdraw(entry)
