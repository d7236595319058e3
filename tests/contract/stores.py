"""The stores that have to keep the contract. A new store is one more entry of `STORES`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple, TypeVar

import pytest

from pool.store.base import Store
from pool.store.memory import MemoryStore
from pool.store.memory_limits import MemoryLimits
from tests.support.stores import WrappedStore, YieldingStore

T = TypeVar("T")

# How long a lease lasts without a write by its holder, in every store of this suite.
LEASE_TTL_S = 30.0


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Opened(NamedTuple):
    """An open, empty store, and a way to let time pass for it (in seconds)."""

    store: Store
    pass_time: Callable[[float], Awaitable[None]]


Opening = Callable[[], AbstractAsyncContextManager[Opened]]


class RestingStore(WrappedStore):
    """A memory store in which every idle session is at rest before each call."""

    def __init__(self, store: MemoryStore, clock: Clock) -> None:
        super().__init__(store)
        self._memory = store
        self._clock = clock

    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        self._memory.sweep(self._clock() + self._memory.limits.rest_after_s, 10_000)
        return await call()


def _wrapped(wrap: Callable[[MemoryStore, Clock], Store]) -> Opening:
    @asynccontextmanager
    async def opening() -> AsyncIterator[Opened]:
        clock = Clock()
        limits = MemoryLimits(rest_after_s=0.001)
        store = wrap(MemoryStore(clock=clock, lease_ttl_s=LEASE_TTL_S, limits=limits), clock)

        async def pass_time(seconds: float) -> None:
            clock.now += seconds

        await store.open()
        yield Opened(store, pass_time)
        await store.close()

    return opening


# A store with a thread or a socket of its own: marks=pytest.mark.real_time
STORES = [
    pytest.param(_wrapped(lambda store, clock: store), id="memory"),
    pytest.param(_wrapped(RestingStore), id="memory at rest"),
    pytest.param(_wrapped(lambda store, clock: YieldingStore(store)), id="memory, suspending"),
]

every_store = pytest.mark.parametrize("opening", STORES)
