"""How turns are asked for: wait for the answer, submit, or watch it being given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple, Unpack

from pool.acceptor import Entry
from pool.events import Event
from pool.guard.rates import RateState
from pool.ids import session_of_key
from pool.intake import Intake
from pool.outcome import raise_for
from pool.store.base import SessionKey
from pool.turn import ANYONE, Principal, Turn, TurnOptions, TurnRequest, request_of
from pool.watch import Watch


class Acceptance(NamedTuple):
    """A turn that was accepted; `new` if it is no earlier one with the same idempotency key.
    `rates`: how the caller's limits of requests stand.
    """

    turn: Turn
    new: bool
    rates: Sequence[RateState]


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
        live = entry.live
        if live is None and (entry.turn.ended or not self.store.durable):
            turn = entry.turn
        else:
            try:
                if live is not None:
                    await self._ended(live)
                if live is not None and live.moved:
                    self._check_moved(live)
                if live is None or live.moved:
                    turn = await self._outcome(entry.turn.id, principal=_owner(entry.turn))
                else:
                    turn = live.snapshot()
            except asyncio.CancelledError:
                self._left(entry)
                raise
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
            async with aclosing(self.events(entry.turn.id, principal=_owner(entry.turn))) as events:
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
    ) -> Acceptance:
        """Have a validated request accepted."""
        entry = await self._intake.enter(
            request,
            self._session_key(session, idempotency_key, principal),
            idempotency_key=idempotency_key,
            principal=principal,
            request_id=request_id,
        )
        turn = entry.turn if entry.live is None else entry.live.snapshot()
        return Acceptance(turn, entry.new, entry.rates)

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


def _owner(turn: Turn) -> Principal:
    return Principal(turn.tenant, turn.user)
