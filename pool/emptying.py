"""Waiting until no turn is left."""

from __future__ import annotations

import asyncio
from collections.abc import Sized


class Emptying:
    """Knows when the last of the turns has left."""

    def __init__(self, turns: Sized) -> None:
        self._turns = turns
        self._waiters: list[asyncio.Future[None]] = []

    async def wait(self, timeout_s: float) -> bool:
        """Wait until no turn is left, at most so long; whether none is."""
        if self._turns and timeout_s > 0:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await asyncio.wait([waiter], timeout=timeout_s)
        return not self._turns

    def wake(self) -> None:
        """The last one has left."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
