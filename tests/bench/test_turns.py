"""What the slow caller makes of a turn."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bench.turns import Turn

ENDED = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_last_attempt_began_before_it_ended() -> None:
    """The start is the end less the time that the turn ran."""
    turn = Turn("t", "completed", run_s=1.5, finished_at=ENDED)

    assert turn.started_at == ENDED.timestamp() - 1.5


@pytest.mark.parametrize("turn", [Turn("t", "running", 0.0), Turn("t", "failed", 0.0, ENDED)])
def test_only_a_completed_turn_was_started_again(turn: Turn) -> None:
    """A turn that did not complete is no figure, but an error that names it."""
    with pytest.raises(RuntimeError, match="turn t should be completed, and is"):
        _ = turn.started_at
