"""Sessions whose turns nobody runs: they are claimed, and their turns go on here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Literal

import structlog

from pool.config import PoolConfig
from pool.dispatcher import Dispatcher
from pool.doubts import Doubts
from pool.errors import StoreUnavailable
from pool.letters import Letters
from pool.live import LiveTurn, not_begun, revived
from pool.order import InOrder
from pool.sessions import Sessions
from pool.store.base import SessionKey, Store
from pool.store.sharing import CancelTurn, Claim
from pool.turn import Turn
from pool.turns import Turns

_log = structlog.get_logger("pool.takeover")

# What a sweep has come upon: as much as it takes in one go, something, nothing.
Found = Literal["many", "some", "none"]

# How many sessions are claimed in one go.
_AT_ONCE = 100
# How long a session is left to those who serve its agent, in seconds.
_PASS_OVER_S = 5.0


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
        doubts: Doubts,
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
        self._doubts = doubts
        # what is being claimed, what else was offered meanwhile, what the last sweep has left
        self._taking: set[SessionKey] = set()
        self._offers: dict[SessionKey, None] = {}
        self._left: set[SessionKey] = set()
        # sessions for others to take, and until when
        self._passed_over: dict[SessionKey, float] = {}

    @property
    def doubtful(self) -> bool:
        """Whether something is to be cleared up with the store."""
        return bool(self._doubts.sessions or self._doubts.turns)

    async def sweep(self) -> Found:
        """Claim what is ours by the store's account, and what has been orphaned, up to the room in
        the queue. What there may still be.
        """
        await self._clear_up()
        waiting = sum(dispatcher.waiting for dispatcher in self._dispatchers.values())
        room = min(_AT_ONCE, self._config.queue_max - waiting)
        doubtful = list(islice(self._doubts.sessions, _AT_ONCE))
        orphans: Sequence[SessionKey] = ()
        if room > 0 and not self.closed:
            orphans = await self._store.orphans(room)
        # where there is no room at once another process may have some: it goes first
        before, self._left = self._left, set(orphans)
        for key in dict.fromkeys((*doubtful, *orphans)):
            if key in before or key in self._doubts.sessions or self._has_room():
                self._begin(key)
        if len(orphans) + len(doubtful) >= _AT_ONCE:
            return "many"
        return "some" if orphans or doubtful or room <= 0 else "none"

    def offered(self, key: SessionKey) -> None:
        """A session wants a holder: claim it, if a turn of it can start at once here."""
        self._offers[key] = None
        self._take_offers()

    def _take_offers(self) -> None:
        while self._offers and self._has_room():
            self._begin(self._offers.popitem()[0])
        # whoever has room takes them; else they are found by the next sweep
        if not self._taking:
            self._offers.clear()

    def _has_room(self) -> bool:
        return any(d.has_room(len(self._taking)) for d in self._dispatchers.values())

    def _begin(self, key: SessionKey) -> None:
        # what is on its way already is not waited for: it may wait for the store itself
        if not self._order.busy(key):
            self._taking.add(key)
            self._order.run(key, self._try(key))

    async def _try(self, key: SessionKey) -> None:
        try:
            await self.take(key)
        except StoreUnavailable as error:
            # it is in doubt until the store answers
            _log.info("session is not claimed yet", session_id=key.id, error=error.code)
        finally:
            self._taking.discard(key)
            self._take_offers()

    async def take(self, key: SessionKey, *, new: str = "") -> None:
        """Claim a session if it can be had, and go on with its turns; in its order only. `new`: a
        turn that was accepted here just now.
        """
        session = self._sessions.get(key)
        if self.closed or (session is not None and session.held):
            self._doubts.sessions.pop(key, None)
            return
        if self._turns.clock() < self._passed_over.get(key, 0.0):
            return
        self._passed_over.pop(key, None)
        # until there is an answer
        self._doubts.session(key)
        claim = await self._store.claim(key, self._name)
        if claim is not None:
            await self._restore(claim, new)
        self._doubts.sessions.pop(key, None)

    async def _clear_up(self) -> None:
        # Turns of which nobody knows here whether they were accepted.
        doubted = list(islice(self._doubts.turns.values(), _AT_ONCE))
        cleared = await asyncio.gather(
            *(self._clear(turn, repeatable) for turn, repeatable in doubted),
            return_exceptions=True,
        )
        for failure in cleared:
            if isinstance(failure, BaseException):
                raise failure

    async def _clear(self, turn: Turn, repeatable: bool) -> None:
        key = SessionKey(turn.tenant, turn.session_id)
        await self._order.done(key, self._recover(key, turn.id, repeatable))
        self._doubts.turns.pop(turn.id, None)

    async def _recover(self, key: SessionKey, turn_id: str, repeatable: bool) -> None:
        record = await self._store.turn(turn_id)
        if record is None or record.ended:
            return
        if not repeatable:
            # its caller was told that it was refused, and cannot ask for it again
            await self._store.signal(key, CancelTurn(turn_id))
        session = self._sessions.get(key)
        if session is None or not session.held:
            self._doubts.session(key)
        elif record.id not in session.turns:
            not_begun(record)
            turn = revived(record, session.accepted + 1, self._turns.clock(), self._turns.wall())
            self._turns.revival.adopt(session, turn)
            await self._letters.read(session)

    async def _restore(self, claim: Claim, new: str) -> None:
        lease = claim.lease
        if any(self._turns.revival.foreign(record.agent) for _, record in claim.turns):
            self._passed_over[lease.key] = self._turns.clock() + _PASS_OVER_S
            await self._store.release(lease)
            return
        insist = self._turns.writer.insist
        inbox = await insist(lambda: self._store.inbox(lease, ""))
        replicas = await insist(self._store.replicas)
        session = self._sessions.take(lease, claim.end)
        self._turns.revival.restore(
            session,
            self._revived(claim, new),
            alive={self._name, *(replica.name for replica in replicas)},
        )
        try:
            await insist(lambda: self._letters.follow(session, inbox))
            # what was done is forgotten, before anything runs
            await insist(lambda: self._letters.read(session))
        finally:
            self._turns.revival.begin(session)

    def _revived(self, claim: Claim, new: str) -> list[LiveTurn]:
        now, wall = self._turns.clock(), self._turns.wall()
        for _, record in claim.turns:
            if record.id == new:
                not_begun(record)
        turns = [revived(record, number, now, wall) for number, record in claim.turns]
        _log.info(
            "session taken over",
            session_id=claim.lease.key.id,
            turns=len(turns),
            attempts=max((turn.record.attempt for turn in turns), default=0),
        )
        return turns
