"""What a pool does now and then, and when it is nudged, to act as one with other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from itertools import islice
from typing import Any

import structlog

from pool.errors import StoreUnavailable
from pool.follow import Followers
from pool.letters import Letters
from pool.order import InOrder, Spawn
from pool.replicas import Replicas
from pool.sessions import Sessions
from pool.store.base import SessionKey, Store
from pool.store.sharing import Nudge
from pool.takeover import Takeover

# How many sessions are looked at in one go, should nothing have been heard of them.
_LOOKS = 200
# The pause between two sweeps while there is something to be found, in seconds.
_MORE_S = 0.1

_log = structlog.get_logger("pool.upkeep")


class Upkeep:
    """Looks after what others may have left for this process, and it for others."""

    def __init__(
        self,
        store: Store,
        *,
        replicas: Replicas,
        takeover: Takeover,
        sessions: Sessions,
        followers: Followers,
        letters: Letters,
        order: InOrder,
        spawn: Spawn,
        every_s: float,
    ) -> None:
        self._store = store
        self._replicas = replicas
        self._takeover = takeover
        self._sessions = sessions
        self._followers = followers
        self._letters = letters
        self._order = order
        self._spawn = spawn
        # twice as often as said, so that what is found is done within the time that is said
        self._every_s = every_s / 2
        # in a shared store orphans come with a nudge, or from a process that is seen to go
        self._rarely_s = store.lease_s / 2 if store.shared else every_s
        self._sweep_at = 0.0
        self._alert_until = 0.0
        # there may be more to sweep
        self._more = False
        self._missed = False
        self._reachable = True
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Begin, with a look at once."""
        if self._store.durable or self._store.shared:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="upkeep")

    async def stop(self) -> None:
        """End; nudges that still come are passed over."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def nudged(self, nudge: Nudge) -> None:
        """Another process says that there is something to see."""
        if self._closed:
            return
        if nudge.key is None:
            for session in self._sessions.held():
                self._do(self._order.done(session.key, self._read(session.key)))
            for session in self._sessions.watched():
                self._followers.more(session.key)
        elif nudge.kind == "events":
            self._followers.more(nudge.key)
        elif nudge.kind == "work":
            # should it be passed over here and elsewhere
            self._more = True
            self._takeover.offered(nudge.key)
        elif self._order.busy(nudge.key) or nudge.key in self._sessions:
            # it may be held only when the answer that is on its way has come
            self._do(self._order.done(nudge.key, self._read(nudge.key)))

    def _look_around(self, now: float) -> None:
        # A nudge may have been lost on its way. So many at once that the store does not notice.
        if not self._store.shared:
            return
        held = (s for s in self._sessions.held() if now - s.looked_at > self._store.lease_s / 3)
        for session in islice(held, _LOOKS):
            self._do(self._order.done(session.key, self._read(session.key)))
        watched = (s for s in self._sessions.watched() if now - s.looked_at > self._store.lease_s)
        for session in islice(watched, _LOOKS):
            self._followers.more(session.key)

    async def _read(self, key: SessionKey) -> None:
        session = self._sessions.get(key)
        if session is not None:
            await self._letters.read(session)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        self._spawn(self._try(work))

    async def _try(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except StoreUnavailable:
            # everything is looked at again when it can be reached
            self._missed = True

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            try:
                if await self._replicas.refresh():
                    # its leases run out about now, one partition after the other
                    self._alert_until = loop.time() + self._store.lease_s
                if self._sweep_due(loop.time()):
                    found = await self._takeover.sweep()
                    self._more = found == "many"
                    self._sweep_at = loop.time() + (self._rarely_s if found == "none" else 0)
                self._reachable = True
                # after a silence longer than the leases others may hold what was held here
                if self._missed or loop.time() - last > self._store.lease_s:
                    self._missed = False
                    self.nudged(Nudge("all"))
                else:
                    self._look_around(loop.time())
                last = loop.time()
            except StoreUnavailable as error:
                if self._reachable:
                    # once for an outage
                    self._reachable = False
                    _log.warning("store cannot be reached", error=error.detail)
            except Exception:
                _log.exception("upkeep failed", remedy="it is done again: report this, please")
            await asyncio.sleep(_MORE_S if self._more else self._every_s)

    def _sweep_due(self, now: float) -> bool:
        return (
            self._more
            or self._takeover.doubtful
            or now >= self._sweep_at
            or now < self._alert_until
        )
