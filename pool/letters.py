"""The inboxes of the sessions held here: what other processes left there is read and done."""

from __future__ import annotations

import asyncio

import structlog

from pool.errors import LeaseLost
from pool.live import LiveTurn, Stop, not_begun, revived
from pool.session import Session
from pool.store.base import Store
from pool.store.sharing import CancelTurn, DecideCall, Inbox, Letter, TurnArrived
from pool.turns import Turns

_log = structlog.get_logger("pool.letters")


class Letters:
    """Reads inboxes."""

    def __init__(self, store: Store, turns: Turns) -> None:
        self._store = store
        self._turns = turns

    async def read(self, session: Session) -> None:
        """Do what the inbox says, letter by letter. Reading one twice does nothing twice."""
        lease = session.lease
        if lease is None:
            return
        session.looked_at = asyncio.get_running_loop().time()
        try:
            inbox = await self._store.inbox(lease, session.letter)
        except LeaseLost as error:
            if session.lease is lease and not session.ending:
                _log.warning("session is held by another process", error=error.detail)
                self._turns.moving.fenced(session, lease)
            # else the answer to the commit, which may have released it, is on its way
            return
        if session.lease is lease:
            await self.follow(session, inbox)

    async def follow(self, session: Session, inbox: Inbox) -> None:
        """Do what was read."""
        session.watched = inbox.watched
        for letter in inbox.letters:
            await self._do(session, letter, inbox)

    async def _do(self, session: Session, letter: Letter, inbox: Inbox) -> None:
        content = letter.content
        if isinstance(content, TurnArrived):
            self._arrived(session, content, inbox)
        elif (turn := session.turns.get(content.turn_id)) is not None:
            if isinstance(content, CancelTurn):
                self._turns.stopping.stop(turn, Stop("cancelled"))
            else:
                await self._decide(turn, content)
        session.letter = letter.place

    def _arrived(self, session: Session, arrived: TurnArrived, inbox: Inbox) -> None:
        record = inbox.turns.get(arrived.turn_id)
        if arrived.number <= session.accepted or record is None:
            # it came with the claim
            return
        session.accepted = arrived.number
        if not record.ended:
            begun = record.state != "queued"
            not_begun(record)
            turn = revived(record, arrived.number, self._turns.clock(), self._turns.wall())
            self._turns.revival.adopt(session, turn)
            if begun:
                # so that nobody who claims the session takes it for begun
                self._turns.errands.spawn(self._turns.note_queued(turn))

    async def _decide(self, turn: LiveTurn, decision: DecideCall) -> None:
        question = (decision.call_id, decision.asked)
        pending = next((c for c in turn.record.pending if (c.call_id, c.asked) == question), None)
        if pending is None:
            # it was read before
            return
        await self._turns.approvals.decided(
            turn, pending, decision.decision, by=decision.user, reason=decision.reason
        )
