"""Turns that broke what ran them: they run again, or are dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

from pool.dispatcher import Dispatcher
from pool.errors import DeadLetter
from pool.live import LiveTurn
from pool.turn import TurnError

if TYPE_CHECKING:
    from pool.turns import Turns

_log = structlog.get_logger("pool.crashes")


class Crashes:
    """Says what becomes of a turn whose actor, or process, broke under it; `max_attempts` times it
    is begun.
    """

    def __init__(
        self, turns: Turns, dispatchers: Mapping[str, Dispatcher], *, max_attempts: int
    ) -> None:
        self._turns = turns
        self._dispatchers = dispatchers
        self._max_attempts = max_attempts

    def lost(self, turn: LiveTurn, error: str) -> None:
        """The turn's actor crashed under it: it runs again, or is a dead letter."""
        if turn.phase != "running":
            return
        self._turns.release(turn)
        record = turn.record
        if turn.stop is not None:
            self._turns.errands.spawn(self._turns.end_early(turn))
        elif record.attempt >= self._max_attempts:
            self.bury(turn, f"the turn crashed its actor {record.attempt} times", error)
        else:
            self._turns.requeue(turn)
            turn.distrusted = True
            record.pending = ()
            self._dispatchers[record.agent].back(turn)

    def bury(self, turn: LiveTurn, detail: str, error: str) -> None:
        """It has broken what ran it too often: it is a dead letter."""
        record = turn.record
        if turn.phase == "queued":
            self._dispatchers[record.agent].drop(turn)
            turn.phase = "waiting"
        _log.error(
            "turn is a dead letter",
            agent=record.agent,
            turn_id=record.id,
            attempts=record.attempt,
            error=error,
            remedy="mend the agent, then requeue it: actorpool dead-letters requeue",
        )
        self._turns.errands.spawn(
            self._turns.ending.end(turn, "failed", error=TurnError(DeadLetter.code, detail))
        )
