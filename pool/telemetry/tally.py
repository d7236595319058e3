"""Numbers that are cheap to count: plain integers and lists, read when somebody scrapes.

A turn costs the event loop under a microsecond here; a labelled histogram of the metrics library,
with its lock and its walk over the buckets, costs that much per observation.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Final

# Seconds: from an agent that echoes to one that works for as long as a turn lasts by default.
TURN_BOUNDS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
# Seconds: what a loop at work is late by, up to one that stands still.
LAG_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class Distribution:
    """How many values fell under each of the rising `bounds`, and the sum of all."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value; one equal to a bound is under it."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """The bounds as text with the number of values at or under each, the last one `+Inf`."""
        running = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            running += count
            buckets.append((str(bound), running))
        return buckets


class AgentTally:
    """What is counted for one agent since the process started."""

    __slots__ = (
        "blocked",
        "first_token",
        "flagged",
        "input_tokens",
        "leaked",
        "limit_moves",
        "model_decisions",
        "moved",
        "output_tokens",
        "queued",
        "refusals",
        "scale_moves",
        "starts",
        "stops",
        "tool_decisions",
        "turns",
        "turns_s",
        "unpriced",
        "webhooks",
    )

    def __init__(self) -> None:
        # by the state in which turns ended
        self.turns: Counter[str] = Counter()
        # seconds from acceptance to the end, a human's thinking left out
        self.turns_s = Distribution(TURN_BOUNDS)
        self.queued = Distribution(TURN_BOUNDS)
        self.first_token = Distribution(TURN_BOUNDS)
        self.input_tokens = 0
        self.output_tokens = 0
        # turns with tokens of a model that no price is known for
        self.unpriced = 0
        # by the code of the refusal
        self.refusals: Counter[str] = Counter()
        # inputs that the screen found suspicious, by what followed
        self.flagged: Counter[str] = Counter()
        self.starts = 0
        # by reason
        self.stops: Counter[str] = Counter()
        # by step: routed, retried, fell_back ...
        self.model_decisions: Counter[str] = Counter()
        # by what was decided (allow, ask, deny), and by whom (gate, human)
        self.tool_decisions: Counter[tuple[str, str]] = Counter()
        # by "up" and "down"
        self.scale_moves: Counter[str] = Counter()
        self.limit_moves: Counter[str] = Counter()
        self.leaked = 0
        # by how it changed its process
        self.moved: Counter[str] = Counter()
        # by outcome of the try
        self.webhooks: Counter[str] = Counter()
        self.blocked = 0
