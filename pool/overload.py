"""Standing overload: when the queue no longer empties, new work of low priority is shed.

After CoDel (Nichols, Jacobson 2012): not a long wait is the sign, but that even the *smallest* wait
of a whole window was long. Each such window sheds one more class; one good window ends it.
"""

from __future__ import annotations

from math import inf
from typing import Final

from pool.queue import RANK
from pool.turn import Priority

_MOST: Final = RANK["interactive"]
_LEAST: Final = RANK["batch"]


class Overload:
    """Which priorities are shed now. It is told of every wait, and when a window is over."""

    __slots__ = ("_shed_from", "_smallest", "ends", "target_s", "window_s")

    def __init__(self, *, target_s: float, window_s: float, now: float) -> None:
        self.target_s = target_s
        self.window_s = window_s
        # when the window is over: `roll` is due
        self.ends = now + window_s
        self._smallest = inf
        self._shed_from = _LEAST + 1

    @property
    def shedding(self) -> tuple[Priority, ...]:
        """The priorities that are refused now."""
        return tuple(name for name, rank in RANK.items() if rank >= self._shed_from)

    def sheds(self, priority: Priority) -> bool:
        """Whether a new turn of this priority is to be refused."""
        return RANK[priority] >= self._shed_from

    def waited(self, wait_s: float) -> None:
        """A turn started after waiting so long."""
        if wait_s < self._smallest:
            self._smallest = wait_s

    def roll(self, now: float, oldest_wait_s: float) -> None:
        """Judge the window that is over and begin the next.

        A window in which nothing started is judged by how long the oldest turn waits (0: none
        does).
        """
        smallest = self._smallest if self._smallest < inf else oldest_wait_s
        if smallest > self.target_s and oldest_wait_s > 0:
            self._shed_from = max(_MOST + 1, self._shed_from - 1)
        else:
            self._shed_from = _LEAST + 1
        self.ends = now + self.window_s
        self._smallest = inf
