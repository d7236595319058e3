"""An ask within one process, of one caller and of a hundred, against a queue and a future."""

from __future__ import annotations

from typing import Final

from bench.process import report
from bench.result import Row, Target, alternate

SECONDS: Final = 1.0
TARGETS: Final = {1: None, 100: Target(0.2, "at least")}


def run(rounds: int) -> list[Row]:
    """Asks a second."""
    return [_row(rounds, callers, target) for callers, target in TARGETS.items()]


def _row(rounds: int, callers: int, target: Target | None) -> Row:
    sides = alternate(
        rounds,
        pool=lambda: report("bench.ask", "pool", callers, SECONDS, kind=float, role=0),
        bare=lambda: report("bench.ask", "bare", callers, SECONDS, kind=float, role=0),
    )
    return sides.row(f"ask in process, {callers} callers", "asks/s", float, target)
