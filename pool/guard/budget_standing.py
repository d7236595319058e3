"""How budgets stand: what turns have spent, and what is set aside for those that run.

What was set aside for a turn that nobody settled (its process died) counts as spent when the hour
is over in which it had to be: the turn may have run. Nobody does anything for that: what is set
aside until an hour's end is forgotten by the store itself when it has ended, what is used stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Final, NamedTuple

from pool.guard.budget import GRACE_S, SLOT_S, Budget, Line
from pool.store.counters import Counters

# No turn has a later deadline, in seconds.
_DEADLINE_MAX_S: Final = 86_400.0
# Of how many limits it is remembered what was left behind.
_LEFT_MAX: Final = 10_000


class Standing(NamedTuple):
    """How a limit stands: what turns have spent, and what running ones have set aside."""

    line: Line
    spent: int
    reserved: int


class Account(NamedTuple):
    """How a budget stands in somebody's name; None: it is each tenant's or user's own, and nobody
    was named. A budget for single turns has no standing.
    """

    budget: Budget
    subject: str | None
    standing: Sequence[Standing]


class Standings:
    """Reads how limits stand."""

    def __init__(self, counters: Counters, wall: Callable[[], float]) -> None:
        self._counters = counters
        self._wall = wall
        # by limit: in which hour it was asked for, and what was left behind
        self._left: dict[str, tuple[int, int]] = {}

    async def of(self, lines: Sequence[Line]) -> list[Standing]:
        """How these stand."""
        return [standing for standing, _ in await self._read(lines)]

    async def spent(self, line: Line) -> int:
        """What was spent under a limit."""
        left = await self.left(line)
        (settled,) = await self._counters.counts([line.spent])
        return settled + left

    async def left(self, line: Line) -> int:
        """What turns have left behind under a limit that nobody settled. It changes with the hour:
        the store is asked once in that.
        """
        hour = int(self._wall() // SLOT_S)
        known_in, left = self._left.get(line.key, (-1, 0))
        if known_in == hour:
            return left
        ((standing, settled),) = await self._read([line])
        if len(self._left) >= _LEFT_MAX:
            self._left.clear()
        left = standing.spent - settled
        self._left[line.key] = hour, left
        return left

    async def _read(self, lines: Sequence[Line]) -> list[tuple[Standing, int]]:
        """How they stand, and what those turns have spent that were settled."""
        if not lines:
            return []
        slots = _slots(self._wall())
        names = [name for line in lines for name in (line.spent, line.used, *map(line.due, slots))]
        values = await self._counters.counts(names)
        width = 2 + len(slots)
        found = []
        for line, start in zip(lines, range(0, len(values), width), strict=True):
            settled, used, *due = values[start : start + width]
            reserved = sum(due)
            found.append((Standing(line, used - reserved, reserved), settled))
        return found


def _slots(now: float) -> range:
    """The hours that are not over and that turns which run now may have to be settled in."""
    return range(int(now // SLOT_S) + 1, ceil((now + _DEADLINE_MAX_S + GRACE_S) / SLOT_S) + 1)
