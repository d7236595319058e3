"""The deadlines of all unfinished turns under one timer.

A timer a turn would cost more than the turn. Here a deadline is one push on a heap; what has ended
is passed over when its time comes, and swept out when it makes up three quarters of the heap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf
from typing import Generic, Protocol, TypeVar


class Timed(Protocol):
    """Something that ends by itself, or at its deadline."""

    deadline: float

    @property
    def over(self) -> bool:
        """Whether it ended by itself."""


T = TypeVar("T", bound=Timed)


class Deadlines(Generic[T]):
    """Calls `expire(item)` once its deadline (in the loop's time) has passed, unless it is over."""

    def __init__(self, expire: Callable[[T], None]) -> None:
        self._expire = expire
        self._heap: list[tuple[float, int, T]] = []
        self._number = 0
        self._over = 0
        # a timer that is due is no TimerHandle with uvloop: it does not say when
        self._timer: asyncio.Handle | None = None
        self._rings_at = inf
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, item: T) -> None:
        """Watch over an item."""
        self._number += 1
        heappush(self._heap, (item.deadline, self._number, item))
        if item.deadline < self._rings_at:
            self._arm()

    def ended(self) -> None:
        """One of the items is over: it need no longer be kept."""
        self._over = over = self._over + 1
        if over > 0.75 * len(self._heap) + 32:
            self._heap = [entry for entry in self._heap if not entry[2].over]
            heapify(self._heap)
            self._over = 0

    def close(self) -> None:
        """Expire nothing more."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._rings_at = inf

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = self._heap[0][0]
        self._timer = self._loop.call_at(self._rings_at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._rings_at = inf
        now = self._loop.time()
        while self._heap and self._heap[0][0] <= now:
            item = heappop(self._heap)[2]
            if item.over:
                self._over -= 1
            else:
                self._expire(item)
        if self._heap:
            self._arm()
