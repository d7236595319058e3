"""A shared store of which each process loses, delays and refuses calls as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from pool.errors import StoreUnavailable
from pool.store.base import SessionKey
from pool.store.memory import MemoryStore
from pool.store.sharing import Nudge
from tests.support.cluster import Cluster, clustered
from tests.support.stores import FailingStore, View

T = TypeVar("T")


class FaultyView(FailingStore, View):
    """A view whose calls may be refused, lose their answers, or be answered late.

    `fail` and `lose` are those of `FailingStore`. What is refused has no effect; what is lost or
    late has taken effect.
    """

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        # nudges are lost on their way to this process
        self.deaf = False
        self._cut = False
        self._delays: dict[str, tuple[float, float]] = {}
        self._then: dict[str, Callable[[], object]] = {}

    def delay(self, *names: str, by_s: float, times: float = float("inf")) -> None:
        """Answer the next `times` calls of these methods so much later."""
        for name in names:
            self._delays[name] = (by_s, times)

    def after(self, name: str, then: Callable[[], object]) -> None:
        """Do this when the next call of the method has taken effect, before it is answered."""
        self._then[name] = then

    def cut(self) -> None:
        """The network to the store is gone: calls fail, and nothing keeps this process alive."""
        self._cut = True
        self._fall_silent()

    def mend(self) -> None:
        """The network is there again."""
        self._cut = False
        # as after a stop: who was silent is heard again
        self.hold()
        self.go_on()

    def recover(self) -> None:
        """Fail no more, and answer at once."""
        super().recover()
        self._delays.clear()

    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        return await super().around(name, partial(self._reach, name, call))

    async def _reach(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        if self._cut:
            raise StoreUnavailable(f"{name} does not reach the store: this test has cut it off")
        result = await View.around(self, name, call)
        if name in self._then:
            self._then.pop(name)()
        by_s, times = self._delays.get(name, (0.0, 0))
        if times > 0:
            self._delays[name] = (by_s, times - 1)
            await asyncio.sleep(by_s)
        return result

    def _nudged(self, owner: str, nudge: Nudge) -> None:
        if not self.deaf:
            super()._nudged(owner, nudge)


@asynccontextmanager
async def faulty(*agents: Any, **config: Any) -> AsyncIterator[Cluster[FaultyView]]:
    """A pool for each of the agents, on one store, each with a faulty view of it."""
    async with clustered(FaultyView, *agents, **config) as on:
        yield on


def fail_over(store: MemoryStore, key: SessionKey, *, lost: int = 1) -> None:
    """A replica of the store takes over that had not got the newest events of a session."""
    events = store._sessions.live[key].log.events
    del events[len(events) - lost :]


def wipe(store: MemoryStore, key: SessionKey) -> None:
    """The store has lost a session altogether."""
    store._sessions.forget(store._sessions.live[key])


def watchers(store: MemoryStore, key: SessionKey) -> set[str]:
    """Who watches a session, as the store has it."""
    mail = store._sessions.live[key].mail
    return set() if mail is None else set(mail.watchers)
