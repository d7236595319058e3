"""Deliveries of webhooks that wait in a memory store."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count

from msgspec import Struct

from pool.store.outbox import Delivery


class Waiting(Struct, eq=False):
    """A delivery that waits. `number`: which of its places in the line counts."""

    number: int
    tries: int


class Deliveries:
    """Deliveries in the order in which they are due. Times are seconds since the epoch."""

    def __init__(self) -> None:
        self._waiting: dict[str, Waiting] = {}
        # due, number, turn; places of what has been moved or settled are passed over
        self._line: list[tuple[float, int, str]] = []
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, turn_id: str, due: float) -> None:
        """One more, never tried."""
        self._wait(turn_id, due, 0)

    def take(self, now: float, limit: int, hold_s: float) -> list[Delivery]:
        """Those that are due; each is due again after a while."""
        found: list[Delivery] = []
        while self._line and self._line[0][0] <= now and len(found) < limit:
            _, number, turn_id = heappop(self._line)
            waiting = self._waiting.get(turn_id)
            if waiting is not None and waiting.number == number:
                found.append(Delivery(turn_id, waiting.tries))
        for turn_id, tries in found:
            self._wait(turn_id, now + hold_s, tries)
        return found

    def put_off(self, turn_id: str, due: float) -> None:
        """A try failed."""
        waiting = self._waiting.get(turn_id)
        if waiting is not None:
            self._wait(turn_id, due, waiting.tries + 1)

    def settle(self, turn_id: str) -> None:
        """Nothing is to be delivered any more."""
        self._waiting.pop(turn_id, None)

    def _wait(self, turn_id: str, due: float, tries: int) -> None:
        number = next(self._numbers)
        self._waiting[turn_id] = Waiting(number, tries)
        heappush(self._line, (due, number, turn_id))
