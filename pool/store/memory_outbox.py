"""The webhooks that a memory store remembers."""

from __future__ import annotations

from collections.abc import Sequence

from pool.store.memory_part import MemoryPart
from pool.store.outbox import Delivery


class MemoryOutbox(MemoryPart):
    """The part of a memory store that remembers webhooks. They go with their turns' records."""

    async def take_deliveries(self, limit: int, hold_s: float) -> Sequence[Delivery]:
        """See `Outbox.take_deliveries`."""
        return self._sessions.deliveries.take(self._clock(), limit, hold_s)

    async def put_off(self, turn_id: str, delay_s: float) -> None:
        """See `Outbox.put_off`."""
        self._sessions.deliveries.put_off(turn_id, self._clock() + delay_s)

    async def settle(self, turn_id: str) -> None:
        """See `Outbox.settle`."""
        self._sessions.deliveries.settle(turn_id)
