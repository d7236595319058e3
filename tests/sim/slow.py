"""A store that takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

from pool.store.base import Store
from tests.support.stores import WrappedStore

T = TypeVar("T")


class SlowStore(WrappedStore):
    """Each call takes up to 0.6 s of virtual time, half of it after it has taken effect."""

    def __init__(self, store: Store, seed: int) -> None:
        super().__init__(store)
        self.suspends = True
        self._random = Random(seed)

    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        await self._pass()
        try:
            return await call()
        finally:
            await self._pass()

    async def _pass(self) -> None:
        await asyncio.sleep(self._random.choice([0, 0.02, 0.3]))
