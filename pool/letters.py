"""The inboxes of the sessions held here: what other processes left there is read and done."""

from __future__ import annotations

import asyncio

import structlog

from pool.errors import LeaseLost
from pool.live import LiveTurn, Stop, revived
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

    async def read_all(self, session: Session) -> None:
        """Read the inbox of a session that was just claimed, and empty it."""
        await self.read(session)
        if session.letter:
            await self.read(session)

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
        if session.lease is not lease:
            return
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
        session.accepted = max(session.accepted, arrived.number)
        record = inbox.turns.get(arrived.turn_id)
        if record is None or record.ended:
            return
        # whoever accepted it may have taken for granted that it starts at once
        here = session.turns.get(record.id)
        if here is None:
            record.state, record.attempt = "queued", 0
            turn = revived(record, arrived.number, self._turns.clock(), self._turns.wall())
            self._turns.revival.adopt(session, turn)
        elif here.phase == "queued":
            # it came with the claim, and nobody had read the letter before
            here.record.state, here.record.attempt = "queued", 0

    async def _decide(self, turn: LiveTurn, decision: DecideCall) -> None:
        question = (decision.call_id, decision.asked)
        pending = next((c for c in turn.record.pending if (c.call_id, c.asked) == question), None)
        if pending is None:
            # it was read before
            return
        await self._turns.approvals.decided(
            turn, pending, decision.decision, by=decision.user, reason=decision.reason
        )
