"""Owners that take part, and hear nudges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from pool.store.base import Store
from pool.store.sharing import Nudge

# Nudges may take a moment on their way; one that takes longer was lost.
CAP_S = 5.0


class Ears:
    """What one owner has heard, in order."""

    def __init__(self) -> None:
        self.heard: list[Nudge] = []
        self._more = asyncio.Event()

    def __call__(self, nudge: Nudge) -> None:
        self.heard.append(nudge)
        self._more.set()

    async def hear(self, nudge: Nudge) -> None:
        """Wait until this nudge came; what came up to it is forgotten."""
        async with asyncio.timeout(CAP_S):
            while nudge not in self.heard:
                self._more.clear()
                await self._more.wait()
        del self.heard[: self.heard.index(nudge) + 1]


@asynccontextmanager
async def joined(store: Store, *owners: str) -> AsyncIterator[list[Ears]]:
    """These owners take part until the end of the block."""
    async with AsyncExitStack() as stack:
        ears = []
        for owner in owners:
            ears.append(Ears())
            await store.join(owner, ears[-1])
            stack.push_async_callback(store.leave, owner)
        yield ears
