"""How a pool empties: first by waiting, then by interrupting what is left."""

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
    await turns.emptied(deadline_s)
    error = TurnError("draining", "the server was shut down before the turn ended", retryable=True)
    turns.stop_all(Stop("interrupted", error=error))
    if not await turns.emptied(grace_s):
        turns.abandon_all()
    await turns.settled(_LAST_S)
