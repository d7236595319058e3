"""Turns that go elsewhere: their session was lost to another process, or is given back."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import structlog

from pool.doubts import Doubts
from pool.errors import LeaseLost, StoreUnavailable
from pool.live import MOVED, LiveTurn
from pool.observer import Move
from pool.session import Session
from pool.store.base import Lease, Store

if TYPE_CHECKING:
    from pool.turns import Turns

_log = structlog.get_logger("pool.moving")


class Moving:
    """Lets go of sessions, and of the turns in them."""

    def __init__(self, turns: Turns, store: Store, doubts: Doubts) -> None:
        self._turns = turns
        self._store = store
        self._doubts = doubts

    def fenced(self, session: Session, lease: Lease) -> None:
        """The store says that the lease is not ours any more."""
        # one that was claimed meanwhile is another
        if session.lease is lease:
            # the store may have lost what it had of us: then it still thinks that it is here
            self._doubts.session(session.key)
            self._let_go(session, "fenced")

    def renewed(self, session: Session | None, lease: Lease | None) -> None:
        """The store gave us the session: if that is anew, what is here of the time before it was
        lost is over, or begins anew, elsewhere.
        """
        held = None if session is None else session.lease
        if session is None or held is None or lease is None or held.epoch == lease.epoch:
            return
        self._let_go(session, "fenced")

    def released(self, session: Session | None, lease: Lease | None) -> None:
        """The store has given the session anew: the lease of before was released, even if the
        answer that says so is still on its way.
        """
        self.renewed(session, lease)
        if session is not None:
            session.lease = None

    def _let_go(self, session: Session, how: Move) -> None:
        # Its turns go on, or begin anew, elsewhere. An agent that still runs in it is cancelled.
        session.lease = None
        # who reads it here wants to know at once what others have written meanwhile
        session.looked_at = -inf
        session.letter = ""
        session.foreign = False
        session.log.let_go()
        turns = list(session.turns.values())
        session.turns.clear()
        # those in line first, so that none of them starts when the current one leaves
        for turn in sorted(turns, key=lambda turn: turn is session.current):
            turn.moved = True
            self._turns.tell_moved(turn, how)
            if turn.phase == "running":
                self._turns.forget(turn)
                self._turns.stopping.move(turn, MOVED)
            elif turn.phase != "ending" and not turn.ends:
                self._turns.withdraw(turn)
                self._turns.leave(turn)
        if session.current is None:
            self._turns.sessions.settle(session)

    def set_down(self, turn: LiveTurn) -> None:
        """Its agent has stopped so that another process may have the turn."""
        if turn.moved:
            self._turns.leave(turn)
            return
        # it did not break anything: it is not counted as running when it is claimed
        turn.phase = "waiting"
        turn.record.state = "queued"
        # what was asked in an attempt that did not get to its pause is asked again
        turn.record.pending = ()
        self.hand_back_soon(turn.session)

    def hand_back_soon(self, session: Session) -> None:
        """Give it back as soon as the store can be asked."""
        self._turns.errands.spawn(self._hand_back(session))

    def hand_back_all(self) -> None:
        """Start no turn any more: give back what waits now, and what runs when it has stopped."""
        self._turns.start_no_more()
        for session in {turn.session: None for turn in self._turns.live.values()}:
            self.hand_back_soon(session)

    def hand_back_paused(self) -> None:
        """Give back what waits for humans: they may take longer than any shutdown."""
        for turn in list(self._turns.live.values()):
            if turn.phase == "waiting":
                self.hand_back_soon(turn.session)

    def move_all(self) -> None:
        """Stop what still runs, so that it can be given back."""
        for turn in list(self._turns.live.values()):
            if turn.phase == "running" and turn.stop is None:
                self._turns.stopping.move(turn, MOVED)

    async def _hand_back(self, session: Session) -> None:
        # Only a session in which nothing runs can be another's.
        current, lease = session.current, session.lease
        if lease is None or session.at_work:
            return
        try:
            await self._turns.writer.flush(session, current)
            if session.lease is lease and not session.at_work:
                self._let_go(session, "handed_back")
                self._doubts.session(session.key)
                await self._turns.writer.insist(lambda: self._store.release(lease))
                self._doubts.sessions.pop(session.key, None)
        except LeaseLost as error:
            _log.info("session was claimed before it was given back", error=error.detail)
        except StoreUnavailable as error:
            _log.warning(
                "session could not be given back",
                session_id=session.key.id,
                error=error.code,
                remedy="others claim it when this process's leases have run out",
            )
            self.fenced(session, lease)
