"""Humans' decisions about tool calls: each once, and for exactly what was shown."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pool.errors import Conflict
from pool.events import ApprovalDecided
from pool.live import LiveTurn
from pool.turn import DecidedCall, PendingCall, Principal

if TYPE_CHECKING:
    from pool.turns import Turns


class Approvals:
    """Decides about the pending calls of turns."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        # by turn: the timers of its calls that wait for a decision
        self._lapses: dict[str, list[asyncio.TimerHandle]] = {}
        self._loop = asyncio.get_running_loop()

    async def decide(
        self,
        turn: LiveTurn,
        call_id: str,
        decision: Literal["approve", "deny"],
        *,
        by: Principal,
        reason: str,
        arguments: Mapping[str, Any] | None,
    ) -> None:
        """A human decides about a pending call, once and for exactly what was shown."""
        record = turn.record
        pending = next((call for call in record.pending if call.call_id == call_id), None)
        if pending is None:
            raise Conflict(f"call {call_id} of turn {turn.id} does not wait for a decision")
        if self._turns.wall() >= pending.expires_at:
            raise Conflict(f"the time to decide about call {call_id} is over")
        if arguments is not None and arguments != pending.arguments:
            raise Conflict(
                f"the arguments given for call {call_id} are not those that wait for approval; "
                "read the turn again and decide about what it shows"
            )
        await self._decided(turn, pending, decision, by=by.user, reason=reason)

    async def _decided(
        self,
        turn: LiveTurn,
        pending: PendingCall,
        decision: Literal["approve", "deny"],
        *,
        by: str,
        reason: str,
    ) -> None:
        record = turn.record
        record.pending = tuple(call for call in record.pending if call is not pending)
        record.decided = (*record.decided, DecidedCall(pending, decision, by, reason))
        self._turns.tell(
            turn,
            ApprovalDecided(
                call_id=pending.call_id, decision=decision, by=by, at=self._turns.wall()
            ),
        )
        try:
            await self._turns.flush(turn)
        finally:
            # It has been told: whoever decided may leave, and what the store could not take now it
            # gets with what follows.
            self._turns.go_on(turn)

    def lapse_later(self, turn: LiveTurn) -> None:
        """Calls about which nobody decides in time are denied, so that the agent can say so."""
        for call in turn.record.pending:
            left_s = call.expires_at - self._turns.wall()
            if self._turns.clock() + left_s < turn.deadline:
                timer = self._loop.call_later(left_s, self._lapse, turn, call)
                self._lapses.setdefault(turn.id, []).append(timer)

    def forget(self, turn: LiveTurn) -> None:
        """The turn is over: nothing of it can lapse."""
        for timer in self._lapses.pop(turn.id, ()):
            timer.cancel()

    def _lapse(self, turn: LiveTurn, call: PendingCall) -> None:
        if call in turn.record.pending and turn.stop is None:
            self._turns.spawn(
                self._decided(turn, call, "deny", by="", reason="nobody decided in time")
            )
