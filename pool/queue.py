"""The queue of one agent: fair between tenants, by priority within a tenant.

Start-time fair queueing (Goyal, Vin, Cheng 1996): each waiting turn brings its tenant a slot with
the tag `max(V, last tag of the tenant) + 1 / weight`, where V is the tag served last; the smallest
tag is served. The slot says whose turn it is; which of that tenant's turns goes first, its priority
and age say. So a tenant that queues a thousand turns delays itself and nobody else.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterator, Mapping
from math import inf
from typing import Final, Generic, Protocol, TypeVar

from pool.turn import Priority

RANK: Final[dict[Priority, int]] = {"interactive": 0, "default": 1, "batch": 2}


class Waiting(Protocol):
    """What the queue needs to know of what waits in it."""

    @property
    def tenant(self) -> str:
        """Whose it is."""

    @property
    def priority(self) -> Priority:
        """How it ranks among its tenant's."""


T = TypeVar("T", bound=Waiting)


class _Line(Generic[T]):
    """One tenant's waiting turns, and a slot `(tag, number)` for each."""

    __slots__ = ("last_tag", "slots", "step", "turns")

    def __init__(self, weight: float) -> None:
        self.step = 1.0 / weight
        self.last_tag = 0.0
        self.slots: deque[tuple[float, int]] = deque()
        self.turns: tuple[deque[T], deque[T], deque[T]] = (deque(), deque(), deque())

    def pop(self) -> T:
        self.slots.popleft()
        for turns in self.turns:
            if turns:
                return turns.popleft()
        raise AssertionError("a slot without a turn")


class FairQueue(Generic[T]):
    """Turns that wait for an actor. Nothing here awaits."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = weights or {}
        self._lines: dict[str, _Line[T]] = {}
        # one for each turn that waits, sorted; the number keeps equal tags in the order of arrival
        self.slots: list[tuple[float, int, _Line[T]]] = []
        self._number = 0
        self._served_tag = 0.0

    def __len__(self) -> int:
        return len(self.slots)

    def __iter__(self) -> Iterator[T]:
        for line in self._lines.values():
            for turns in line.turns:
                yield from turns

    def __repr__(self) -> str:
        return f"<FairQueue [{len(self)} waiting, {len(self._lines)} tenants]>"

    def push(self, turn: T, *, again: bool = False) -> None:
        """Add a turn. `again`: it was served before (a crash, an approval) and pays once."""
        line = self._line(turn.tenant)
        self._number += 1
        if again:
            slot = (self._served_tag, -self._number)
            line.slots.appendleft(slot)
            line.turns[RANK[turn.priority]].appendleft(turn)
        else:
            line.last_tag = self._next_tag(line)
            slot = (line.last_tag, self._number)
            line.slots.append(slot)
            line.turns[RANK[turn.priority]].append(turn)
        insort(self.slots, (*slot, line))

    def pop(self) -> T:
        """Take the turn to serve next; `IndexError` if none waits."""
        tag, _, line = self.slots.pop(0)
        self._served_tag = max(self._served_tag, tag)
        return line.pop()

    def remove(self, turn: T) -> bool:
        """Take a turn out and give its tenant the youngest slot back; False if it does not wait
        here.
        """
        line = self._lines.get(turn.tenant)
        if line is None or turn not in line.turns[RANK[turn.priority]]:
            return False
        line.turns[RANK[turn.priority]].remove(turn)
        slot = line.slots.pop()
        del self.slots[bisect_left(self.slots, slot)]
        line.last_tag = line.slots[-1][0] if line.slots else slot[0] - line.step
        return True

    def ahead(self, tenant: str) -> int:
        """How many waiting turns would be served before a new one of this tenant."""
        return bisect_right(self.slots, (self._next_tag(self._line(tenant)), inf))

    def _next_tag(self, line: _Line[T]) -> float:
        return max(self._served_tag, line.last_tag) + line.step

    def _line(self, tenant: str) -> _Line[T]:
        line = self._lines.get(tenant)
        if line is None:
            if len(self._lines) > 2 * len(self.slots) + 64:
                self._forget_idle()
            line = self._lines[tenant] = _Line(self._weights.get(tenant, 1.0))
        return line

    def _forget_idle(self) -> None:
        # An empty line whose tag has been passed knows nothing that a new one would not.
        self._lines = {
            tenant: line
            for tenant, line in self._lines.items()
            if line.slots or line.last_tag > self._served_tag
        }
