"""Humans' decisions about tool calls: each once, and for exactly what was shown, whichever process
they are told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import structlog

from pool.errors import Conflict, Forbidden, StoreUnavailable
from pool.letters import Letters
from pool.live import LiveTurn
from pool.observer import CallDecidedNotice, DecisionRefusedNotice, Observers
from pool.order import InOrder
from pool.store.base import SessionKey, Store
from pool.store.sharing import DecideCall
from pool.turn import PendingCall, Principal, Turn, same_arguments
from pool.turns import Turns

# These roles decide about what nobody in particular was named for, whoever asked for the turn.
_DECIDERS: Final = frozenset({"operator", "admin"})

_log = structlog.get_logger("pool.decisions")


class Decisions:
    """Has the store keep the first decision about a call; whoever runs the turn finds it there."""

    def __init__(
        self, store: Store, turns: Turns, letters: Letters, order: InOrder, observers: Observers
    ) -> None:
        self._store = store
        self._turns = turns
        self._letters = letters
        self._order = order
        self._observers = observers

    async def decide(
        self,
        turn: Turn,
        call_id: str,
        decision: Literal["approve", "deny"],
        *,
        by: Principal,
        request_id: str,
        reason: str,
        arguments: Mapping[str, Any] | None,
    ) -> None:
        """Decide about a pending call of the turn, as it is now; `Conflict` if that cannot be,
        `Forbidden` if it is not for them to decide.
        """
        self._check_decider(turn, call_id, by, request_id)
        call = self._check(turn, call_id, arguments)
        said = DecideCall(turn.id, call_id, decision, by.user, reason, call.asked)
        told = CallDecidedNotice(turn.agent, turn, call, decision, by, request_id)
        kept = self._keep(turn, said, told)
        await self._order.done(SessionKey(turn.tenant, turn.session_id), kept)

    def _check_decider(self, turn: Turn, call_id: str, by: Principal, request_id: str) -> None:
        """`Forbidden` unless they may; also about a call that was decided, if it is still known."""
        known = (*turn.pending, *(decided.call for decided in turn.decided))
        call = next((call for call in known if call.call_id == call_id), None)
        if call is None or may_decide(turn, call, by):
            return
        self._observers.notice(
            DecisionRefusedNotice(turn.agent, turn.id, call.name, by, request_id)
        )
        who = " or ".join(call.deciders) or "whoever asked for the turn, an operator or an admin"
        raise Forbidden(f"call {call_id} of turn {turn.id} is not yours to decide: {who} may")

    def lapsed(self, turn: LiveTurn, call: PendingCall) -> None:
        """Nobody decided about the call in time: it is denied, so that the agent can say so."""
        self._turns.errands.spawn(self._deny(turn, call))

    def _check(self, turn: Turn, call_id: str, arguments: Mapping[str, Any] | None) -> PendingCall:
        pending = next((call for call in turn.pending if call.call_id == call_id), None)
        if pending is None:
            raise Conflict(
                f"call {call_id} of turn {turn.id}, which is {turn.state}, "
                "does not wait for a decision"
            )
        if self._turns.wall() >= pending.expires_at:
            raise Conflict(f"the time to decide about call {call_id} is over")
        if arguments is not None and not same_arguments(pending.arguments, arguments):
            raise Conflict(
                f"the arguments given for call {call_id} are not those that wait for approval; "
                "read the turn again and decide about what it shows"
            )
        return pending

    async def _keep(self, turn: Turn, decision: DecideCall, told: CallDecidedNotice) -> None:
        key = SessionKey(turn.tenant, turn.session_id)
        if not await self._store.signal(key, decision):
            raise Conflict(f"call {decision.call_id} of turn {turn.id} was decided before")
        self._observers.notice(told)
        live = self._turns.live.get(turn.id)
        if live is not None:
            await self._letters.read(live.session)

    async def _deny(self, turn: LiveTurn, call: PendingCall) -> None:
        reason = "nobody decided in time"
        record = turn.record
        decision = DecideCall(turn.id, call.call_id, "deny", "", reason, call.asked)
        told = CallDecidedNotice(record.agent, record, call, "deny", None, "")
        try:
            await self._turns.writer.insist(
                lambda: self._order.done(turn.key, self._keep(record, decision, told))
            )
        except Conflict:
            # somebody decided in the last moment
            return
        except StoreUnavailable as error:
            _log.warning("turn is another process's now", turn_id=turn.id, error=error.detail)


def may_decide(turn: Turn, call: PendingCall, by: Principal) -> bool:
    """Whether it is for them: one of the call's deciders; or, if none are named, whoever asked for
    the turn, and operators. Always within the turn's tenant.
    """
    if by.tenant != turn.tenant:
        return False
    if call.deciders:
        return any(role in call.deciders for role in by.roles)
    return by.user == turn.user or any(role in _DECIDERS for role in by.roles)
