"""Webhooks that are still to be delivered: kept with the turns, so that none is forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Delivery(NamedTuple):
    """An ended turn whose webhook waits, and how often its delivery was tried."""

    turn_id: str
    tries: int


class Outbox(Protocol):
    """The part of a store that remembers webhooks. `commit` of a turn whose request has a webhook
    puts it in, due at once, in the same step.
    """

    async def take_deliveries(self, limit: int, hold_s: float) -> Sequence[Delivery]:
        """Deliveries that are due, oldest first. Each is due again after `hold_s`, for whoever
        asks then, unless it was settled or put off before: at least once, whoever dies.
        """

    async def put_off(self, turn_id: str, delay_s: float) -> None:
        """A try failed: it counts, and the delivery is due again after the delay."""

    async def settle(self, turn_id: str) -> None:
        """It was delivered, or given up. May be called twice."""
