"""Stores that behave badly on purpose, wrapped around good ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from copy import deepcopy
from functools import partial
from random import Random
from typing import TypeVar

from pool.errors import StoreUnavailable
from pool.events import Event
from pool.store.base import (
    Accepted,
    Lease,
    StateChange,
    Store,
)
from pool.store.memory import MemoryStore
from pool.store.sharing import Nudge
from pool.store.transfer import CarriedSession
from pool.turn import Turn
from tests.support.wrapped import WrappedStore as WrappedStore

T = TypeVar("T")


class YieldingStore(WrappedStore):
    """Suspends before and after each call, so that other tasks get in between.

    Once or twice each time, as the seed decides; the same seed, the same suspensions.
    """

    def __init__(self, store: Store, seed: int = 0) -> None:
        super().__init__(store)
        self.suspends = True
        self._random = Random(seed)

    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        await self._suspend()
        try:
            return await call()
        finally:
            await self._suspend()

    async def _suspend(self) -> None:
        for _ in range(self._random.randint(1, 2)):
            await asyncio.sleep(0)


class FailingStore(WrappedStore):
    """Raises `StoreUnavailable` where told to, until told otherwise.

    `fail(name)` fails every call of a method, `fail(name, times=2)` the next two; `lose(name)` lets
    the next call take effect and loses its answer. `calls` has the names of all calls, in order.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.calls: list[str] = []
        self._failing: dict[str, float] = {}
        self._losing: set[str] = set()

    def fail(self, *names: str, times: float = float("inf")) -> None:
        """Refuse the next `times` calls of these methods."""
        for name in names:
            self._failing[name] = times

    def lose(self, *names: str) -> None:
        """Do what the next call of these methods asks for, and then fail."""
        self._losing.update(names)

    def recover(self) -> None:
        """Fail no more."""
        self._failing.clear()
        self._losing.clear()

    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        self.calls.append(name)
        if self._failing.get(name, 0) > 0:
            self._failing[name] -= 1
            raise StoreUnavailable(f"the store refuses {name}: this test asked for it")
        result = await call()
        if name in self._losing:
            self._losing.remove(name)
            raise StoreUnavailable(f"the store lost the answer of {name}: this test asked for it")
        return result


class View(WrappedStore):
    """A memory store as one process sees it that shares it with others, and may `die` or `hold`.

    What goes in and comes out are copies. Closing a view leaves the store to the others.
    """

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        # it outlives this process, and a call of a process that is stopped waits
        self.durable = True
        self.suspends = True
        self._members = store.members
        self._joined: dict[str, Callable[[Nudge], None]] = {}
        self._missed: list[tuple[str, Nudge]] = []
        self._dead = False
        self._stopped: asyncio.Event | None = None

    def die(self) -> None:
        """The process is killed: its calls fail without effect, nothing keeps it alive, and no
        nudge reaches it.
        """
        self._dead = True
        self._fall_silent()
        if self._stopped is not None:
            self._stopped.set()

    def hold(self) -> None:
        """The process is stopped: its calls and nudges wait, and nothing keeps it alive."""
        self._stopped = asyncio.Event()
        self._fall_silent()

    def go_on(self) -> None:
        """The process goes on where it was stopped."""
        stopped, self._stopped = self._stopped, None
        if stopped is None or self._dead:
            return
        stopped.set()
        for owner in self._joined:
            self._members.join(owner, partial(self._nudged, owner))
        missed, self._missed = self._missed, []
        for owner, nudge in missed:
            asyncio.get_running_loop().call_soon(self._nudged, owner, nudge)

    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        while self._stopped is not None and not self._dead:
            await self._stopped.wait()
        if self._dead:
            raise StoreUnavailable(f"this process is dead and calls {name} no more")
        return deepcopy(await call())

    async def open(self) -> None:
        await self.ping()

    async def close(self) -> None:
        """The store is the others' too."""

    def tick(self) -> None:
        if not self._dead and self._stopped is None:
            self.store.tick()

    async def join(self, owner: str, nudged: Callable[[Nudge], None]) -> None:
        self._joined[owner] = nudged
        await super().join(owner, partial(self._nudged, owner))

    async def leave(self, owner: str) -> None:
        self._joined.pop(owner, None)
        await super().leave(owner)

    def announce(self, owner: str, status: bytes) -> None:
        if not self._dead and self._stopped is None:
            self.store.announce(owner, status)

    async def accept(
        self,
        turn: Turn,
        *,
        owner: str,
        key: str | None = None,
        reject_busy: bool = False,
        with_state: bool = False,
    ) -> Accepted:
        return await super().accept(
            deepcopy(turn), owner=owner, key=key, reject_busy=reject_busy, with_state=with_state
        )

    async def append(
        self,
        lease: Lease,
        events: Sequence[Event],
        turn: Turn | None = None,
        state: StateChange | None = None,
    ) -> bool:
        events, turn = deepcopy((events, turn))
        return await super().append(lease, events, turn, state)

    async def commit(
        self, lease: Lease, turn: Turn, events: Sequence[Event], state: StateChange | None = None
    ) -> bool:
        events, turn = deepcopy((events, turn))
        return await super().commit(lease, turn, events, state)

    async def carry_in(self, session: CarriedSession) -> bool:
        return await super().carry_in(deepcopy(session))

    def _fall_silent(self) -> None:
        for owner in self._joined:
            self._members.silence(owner)

    def _nudged(self, owner: str, nudge: Nudge) -> None:
        if self._dead or owner not in self._joined:
            return
        if self._stopped is not None:
            self._missed.append((owner, nudge))
        else:
            self._joined[owner](nudge)
