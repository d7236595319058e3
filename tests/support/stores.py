"""Stores that behave badly on purpose, wrapped around good ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import TypeVar

from pool.errors import StoreUnavailable
from pool.events import Cursor, Event
from pool.store.base import (
    Accepted,
    AgentState,
    EventPage,
    Lease,
    Page,
    SessionKey,
    StateChange,
    Store,
)
from pool.turn import Message, SessionInfo, Turn

T = TypeVar("T")


class WrappedStore:
    """Does what the wrapped store does; a subclass says what happens around each call."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.durable = store.durable
        self.suspends = store.suspends

    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        """Every call comes through here, with the name of its method."""
        return await call()

    async def open(self) -> None:
        await self.around("open", self.store.open)

    async def close(self) -> None:
        await self.around("close", self.store.close)

    async def ping(self) -> None:
        await self.around("ping", self.store.ping)

    def tick(self) -> None:
        self.store.tick()

    async def accept(
        self, turn: Turn, *, owner: str, key: str | None = None, reject_busy: bool = False
    ) -> Accepted:
        return await self.around(
            "accept",
            lambda: self.store.accept(turn, owner=owner, key=key, reject_busy=reject_busy),
        )

    async def append(
        self,
        lease: Lease,
        events: Sequence[Event],
        turn: Turn | None = None,
        state: StateChange | None = None,
    ) -> None:
        await self.around("append", lambda: self.store.append(lease, events, turn, state))

    async def commit(
        self, lease: Lease, turn: Turn, events: Sequence[Event], state: StateChange | None = None
    ) -> bool:
        return await self.around("commit", lambda: self.store.commit(lease, turn, events, state))

    async def load(self, lease: Lease, agent: str, turn_id: str) -> AgentState:
        return await self.around("load", lambda: self.store.load(lease, agent, turn_id))

    async def find_key(self, key: SessionKey, idempotency_key: str) -> tuple[Turn, bytes] | None:
        return await self.around("find_key", lambda: self.store.find_key(key, idempotency_key))

    async def turn(self, turn_id: str) -> Turn | None:
        return await self.around("turn", lambda: self.store.turn(turn_id))

    async def turns(self, key: SessionKey, after: str | None, limit: int) -> Page[Turn]:
        return await self.around("turns", lambda: self.store.turns(key, after, limit))

    async def events(self, key: SessionKey, after: Cursor, limit: int) -> EventPage:
        return await self.around("events", lambda: self.store.events(key, after, limit))

    async def turn_start(self, turn_id: str) -> Cursor | None:
        return await self.around("turn_start", lambda: self.store.turn_start(turn_id))

    async def messages(self, key: SessionKey, after: str | None, limit: int) -> Page[Message]:
        return await self.around("messages", lambda: self.store.messages(key, after, limit))

    async def create_session(self, key: SessionKey, info: SessionInfo) -> SessionInfo:
        return await self.around("create_session", lambda: self.store.create_session(key, info))

    async def session(self, key: SessionKey) -> SessionInfo | None:
        return await self.around("session", lambda: self.store.session(key))

    async def sessions(self, tenant: str, after: str | None, limit: int) -> Page[SessionInfo]:
        return await self.around("sessions", lambda: self.store.sessions(tenant, after, limit))

    async def delete_session(self, key: SessionKey) -> bool:
        return await self.around("delete_session", lambda: self.store.delete_session(key))

    async def fork_session(
        self, key: SessionKey, new: SessionKey, through_turn: str | None
    ) -> SessionInfo:
        return await self.around(
            "fork_session", lambda: self.store.fork_session(key, new, through_turn)
        )

    async def dead_letters(self, tenant: str | None, limit: int) -> Sequence[Turn]:
        return await self.around("dead_letters", lambda: self.store.dead_letters(tenant, limit))


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
