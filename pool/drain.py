"""How a pool empties: first by waiting, then by giving back what is left, or interrupting it."""

from __future__ import annotations

from pool.live import Stop
from pool.turn import TurnError
from pool.turns import Turns

# What the store is given to take the last ends, in seconds, once nothing runs any more.
_LAST_S = 0.5


async def drain(turns: Turns, *, deadline_s: float, grace_s: float) -> None:
    """Wait up to `deadline_s` for all turns to end; interrupt the rest: `grace_s` to obey.

    What an agent does after that is nobody's turn any more: its actor is abandoned.
    """
    await turns.emptying.wait(deadline_s)
    error = TurnError("draining", "the server was shut down before the turn ended", retryable=True)
    turns.closing = Stop("interrupted", error=error)
    for turn in list(turns.live.values()):
        turns.stopping.stop(turn, turns.closing)
    await _finish(turns, grace_s)


async def hand_over(turns: Turns, *, deadline_s: float, grace_s: float, others: bool) -> None:
    """The same where turns outlive the process: what is left is given back to the store, to be run
    by others; what waits at once, if there are `others`.
    """
    if others:
        turns.moving.hand_back_all()
    else:
        turns.moving.hand_back_paused()
    await turns.emptying.wait(deadline_s)
    turns.moving.hand_back_all()
    turns.moving.move_all()
    await _finish(turns, grace_s)


async def give_up(turns: Turns) -> None:
    """Let go of turns whose ends the store has not taken, and tell who waits for them."""
    for turn in list(turns.live.values()):
        turns.ending.give_up(turn)
    await turns.errands.cancel(1.0)


async def _finish(turns: Turns, grace_s: float) -> None:
    if not await turns.emptying.wait(grace_s):
        for turn in list(turns.live.values()):
            if turn.phase == "running" and turn.stop is not None:
                turns.abandon(turn)
    await turns.errands.settled(_LAST_S)
