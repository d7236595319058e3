"""How turns are made to end before their agents say so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pool.live import LiveTurn, Stop
from pool.turn import TurnError


class Stopping:
    """Stops turns. One that has an actor is cancelled there, and left behind (`abandon`) if it does
    not end within the grace; one that has none is `halted` at once.
    """

    def __init__(
        self,
        *,
        grace_s: float,
        halted: Callable[[LiveTurn], None],
        abandon: Callable[[LiveTurn], None],
    ) -> None:
        self._grace_s = grace_s
        self._halted = halted
        self._abandon = abandon
        self._loop = asyncio.get_running_loop()

    def stop(self, turn: LiveTurn, stop: Stop) -> None:
        """Make a turn end early, if it can still be."""
        if not turn.stoppable:
            if stop.forgotten and turn.phase == "running" and turn.stop and not turn.stop.error:
                # a rollback while it is already stopping: what it says then is forgotten too
                turn.stop = stop
            return
        turn.stop = stop
        if turn.phase == "running":
            self._interrupt(turn)
        else:
            self._halted(turn)

    def move(self, turn: LiveTurn, stop: Stop) -> None:
        """Its agent has to stop, whatever it was stopped for before: the turn goes elsewhere."""
        interrupted = turn.stop is not None
        turn.stop = stop
        if not interrupted:
            self._interrupt(turn)

    def expire(self, turn: LiveTurn) -> None:
        """Its deadline has passed."""
        error = TurnError("deadline_exceeded", "the turn's deadline passed", retryable=True)
        if turn.stoppable:
            self.stop(turn, Stop("expired", error=error))

    def ended(self, turn: LiveTurn) -> None:
        """It is over: there is nothing left to wait for."""
        if turn.grace is not None:
            turn.grace.cancel()
            turn.grace = None

    def _interrupt(self, turn: LiveTurn) -> None:
        if turn.actor is not None:
            turn.actor.interrupt()
        turn.grace = self._loop.call_later(self._grace_s, self._run_out, turn)

    def _run_out(self, turn: LiveTurn) -> None:
        turn.grace = None
        if turn.phase == "running" and turn.actor is not None and turn.stop is not None:
            self._abandon(turn)
