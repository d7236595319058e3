"""A failure as it is recorded in a turn, and as it is raised to who asked."""

from __future__ import annotations

from pool.errors import AgentFailed, DeadLetter, DeadlineExceeded, Draining, PoolError
from pool.turn import Turn, TurnError


def recorded(error: Exception) -> TurnError:
    """What callers may know of an agent's failure: of errors not made for them, nothing."""
    if isinstance(error, PoolError):
        return TurnError(AgentFailed.code, error.detail, error.retryable)
    return TurnError(AgentFailed.code, "the agent failed; the server's log says how")


def raise_for(turn: Turn) -> None:
    """Raise what a failed or expired turn, or one ended by a shutdown, is to who waits for its
    answer.
    """
    error = turn.error
    if error is None:
        return
    kinds: dict[str, type[PoolError]] = {
        DeadLetter.code: DeadLetter,
        DeadlineExceeded.code: DeadlineExceeded,
        Draining.code: Draining,
    }
    raised = kinds.get(error.code, AgentFailed)(error.detail, turn_id=turn.id)
    raised.retryable = error.retryable
    raise raised
