"""Numbers that are cheap to count: plain integers and lists, read when somebody scrapes.

What a turn leaves is put aside, and added up with many others; a labelled histogram of the metrics
library, with its lock and its walk over the buckets, costs a microsecond per observation.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import add
from threading import Lock
from typing import Final

from pool.guard.ledger import micro_of
from pool.turn import State, Usage

# Seconds: from an agent that echoes to one that works for as long as a turn lasts by default.
TURN_BOUNDS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
# Seconds: what a loop at work is late by, up to one that stands still.
LAG_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
# So many turns that ended are put aside at most.
ENDED_MAX: Final = 256

# In which state it ended; the seconds in the queue, at work, and to the first text; what it used.
Ended = tuple[State, float, float, float | None, Usage]


class Distribution:
    """How many values fell under each of the rising `bounds`, and the sum of all."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, values: Iterable[float]) -> None:
        """Count values; one equal to a bound is under it."""
        ordered = sorted(values)
        ends = [bisect_right(ordered, bound) for bound in self._bounds]
        for place, (begin, end) in enumerate(pairwise((0, *ends, len(ordered)))):
            self._counts[place] += end - begin
        self.total += sum(ordered)

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
        "_adding_up",
        "blocked",
        "ended",
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
        # turns that are in none of the numbers yet
        self.ended: list[Ended] = []
        self._adding_up = Lock()
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

    def add_up(self) -> None:
        """Count the turns that were put aside. Any thread may, one that serves the page say."""
        with self._adding_up:
            # one more may come now; it stays
            ended = self.ended[:]
            del self.ended[: len(ended)]
            if ended:
                self._count(ended)

    def _count(self, ended: Sequence[Ended]) -> None:
        states, queued, run, first_token, usages = zip(*ended, strict=True)
        self.turns.update(states)
        self.queued.add(queued)
        self.turns_s.add(map(add, queued, run))
        self.first_token.add([after_s for after_s in first_token if after_s is not None])
        for usage in usages:
            if usage.input_tokens or usage.output_tokens or usage.requests or usage.cost_usd:
                self.input_tokens += usage.input_tokens
                self.output_tokens += usage.output_tokens
                self.unpriced += micro_of(usage) is None
