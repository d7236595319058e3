"""The memory store, in the guises in which it has to keep the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest

from pool.store.base import Store
from pool.store.memory import MemoryStore
from pool.store.memory_limits import MemoryLimits
from tests.contract.opened import Opened, Opening
from tests.support.stores import View, WrappedStore, YieldingStore

T = TypeVar("T")

LEASE_S = 30.0


def wall() -> float:
    """The time of day follows the loop's clock."""
    return 1_700_000_000.0 + asyncio.get_running_loop().time()


class RestingStore(WrappedStore):
    """A memory store in which every idle session is at rest before each call."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self._memory = store

    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        self._memory.sweep(wall() + self._memory.limits.rest_after_s, 10_000)
        return await call()


def _opening(wrap: Callable[[MemoryStore], Store]) -> Opening:
    @asynccontextmanager
    async def opening() -> AsyncIterator[Opened]:
        limits = MemoryLimits(rest_after_s=0.001)
        store = wrap(MemoryStore(clock=wall, lease_ttl_s=LEASE_S, limits=limits))
        await store.open()
        yield Opened(store, asyncio.sleep)
        await store.close()

    return opening


STORES = [
    pytest.param(_opening(lambda store: store), id="memory"),
    pytest.param(_opening(RestingStore), id="memory at rest"),
    pytest.param(_opening(YieldingStore), id="memory, suspending"),
    pytest.param(_opening(View), id="memory, from another process"),
]
