"""How many actors an agent should have. Pure: a snapshot in, a number out."""

from __future__ import annotations

from collections import deque
from math import ceil
from typing import Final

# Actors are added so that about this part of them is busy: the rest takes the next turn at once.
UTILISATION: Final = 0.8


def wanted(*, busy: int, queued: int, least: int, most: int, limit: int) -> int:
    """`clamp(ceil((busy + queued) / 0.8), least, min(most, limit))`; never below `least`."""
    return max(least, min(ceil((busy + queued) / UTILISATION), most, limit))


class Hold:
    """The largest number wanted within the last `hold_s` seconds: scaling down goes no lower."""

    def __init__(self, hold_s: float) -> None:
        self.hold_s = hold_s
        # numbers fall from left to right, so that the leftmost that is young enough is the largest
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, number: int, now: float) -> int:
        """Take note of what is wanted now; returns the largest of the window."""
        while self._seen and self._seen[-1][1] <= number:
            self._seen.pop()
        self._seen.append((now, number))
        while self._seen[0][0] <= now - self.hold_s:
            self._seen.popleft()
        return self._seen[0][1]


def surplus(*, live: int, idle: int, starting: int, keep: int) -> int:
    """How many idle actors may go, so that `keep` remain. A busy one never goes."""
    return max(0, min(idle, live + starting - keep))


def startable(*, live: int, starting: int, want: int, start_limit: int) -> int:
    """How many actors to start now: up to `want`, at most `start_limit` starting together."""
    return max(0, min(want - live - starting, start_limit - starting))
