"""Sessions whose turns nobody runs: they are claimed, and their turns go on here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from pool.config import PoolConfig
from pool.dispatcher import Dispatcher
from pool.letters import Letters
from pool.live import revived
from pool.order import InOrder
from pool.sessions import Sessions
from pool.store.base import SessionKey, Store
from pool.store.sharing import Claim
from pool.turns import Turns

_log = structlog.get_logger("pool.takeover")

# How many sessions are claimed in one go.
_AT_ONCE = 100


class Takeover:
    """Claims sessions for this process, as far as it has room for their turns."""

    def __init__(
        self,
        *,
        name: str,
        config: PoolConfig,
        store: Store,
        sessions: Sessions,
        turns: Turns,
        dispatchers: Mapping[str, Dispatcher],
        order: InOrder,
        letters: Letters,
    ) -> None:
        self.closed = False
        self._name = name
        self._config = config
        self._store = store
        self._sessions = sessions
        self._turns = turns
        self._dispatchers = dispatchers
        self._order = order
        self._letters = letters

    async def sweep(self) -> None:
        """Claim what has been orphaned, up to the room in the queue."""
        waiting = sum(dispatcher.waiting for dispatcher in self._dispatchers.values())
        room = min(_AT_ONCE, self._config.queue_max - waiting)
        if self.closed or room <= 0:
            return
        orphans = await self._store.orphans(room)
        taken = (self._order.done(key, self._take(key)) for key in orphans)
        for result in await asyncio.gather(*taken, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def offered(self, key: SessionKey) -> None:
        """A session wants a holder: claim it, if a turn of it could start at once here."""
        if any(dispatcher.starts_now for dispatcher in self._dispatchers.values()):
            await self._order.done(key, self._take(key))

    async def _take(self, key: SessionKey) -> None:
        session = self._sessions.get(key)
        if self.closed or (session is not None and session.lease is not None):
            return
        claim = await self._store.claim(key, self._name)
        if claim is not None:
            await self._restore(claim)

    async def _restore(self, claim: Claim) -> None:
        session = self._sessions.take(claim.lease, claim.end)
        now, wall = self._turns.clock(), self._turns.wall()
        turns = [revived(record, number, now, wall) for number, record in claim.turns]
        session.accepted = max((turn.number for turn in turns), default=session.accepted)
        _log.info(
            "session taken over",
            session_id=session.key.id,
            turns=len(turns),
            attempts=max((turn.record.attempt for turn in turns), default=0),
        )
        self._turns.revival.restore(session, turns)
        await self._letters.read(session)
