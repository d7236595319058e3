"""The pending calls of turns that run here: what a decision does to them, and when they lapse."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pool.events import ApprovalDecided
from pool.live import LiveTurn
from pool.turn import DecidedCall, PendingCall

if TYPE_CHECKING:
    from pool.turns import Turns


class Approvals:
    """Keeps turns and the decisions about their calls together."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        # told of a call about which nobody decided in time
        self.lapsed: Callable[[LiveTurn, PendingCall], None] = _nobody_asked
        # by turn: the timers of its calls that wait for a decision
        self._lapses: dict[str, list[asyncio.TimerHandle]] = {}
        self._loop = asyncio.get_running_loop()

    async def decided(
        self,
        turn: LiveTurn,
        pending: PendingCall,
        decision: Literal["approve", "deny"],
        *,
        by: str,
        reason: str,
    ) -> None:
        """The store has it that this call was decided, so: tell the turn, and let it go on."""
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
            await self._turns.writer.flush(turn.session, turn)
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
            self.lapsed(turn, call)


def _nobody_asked(turn: LiveTurn, call: PendingCall) -> None:
    raise RuntimeError(f"call {call.call_id} of {turn!r} lapsed before the pool was open")
