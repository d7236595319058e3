"""The sessions that are in use in this process. All others are at rest in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pool.events import Cursor
from pool.log import log_from
from pool.session import Session
from pool.store.base import Lease, SessionKey


class Sessions:
    """Finds a session, makes one when it is needed, forgets it when nobody needs it."""

    def __init__(self) -> None:
        # asked once: to ask which loop runs is a call of the system, in Python 3.11
        self._loop = asyncio.get_running_loop()
        # told of a session that has readers here, and nothing else
        self.unattended: Callable[[Session], None] = _left_alone
        self._sessions: dict[SessionKey, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, key: SessionKey) -> bool:
        return key in self._sessions

    def get(self, key: SessionKey) -> Session | None:
        """The session, if it is in use here."""
        return self._sessions.get(key)

    def unfinished(self, key: SessionKey) -> int:
        """How many turns of the session have not ended."""
        session = self._sessions.get(key)
        return 0 if session is None else len(session.turns)

    def held_by(self, key: SessionKey, owner: str) -> Session | None:
        """The session, if `owner` holds it, as far as is known here."""
        session = self._sessions.get(key)
        # a lease that was released may still be here, until the answer to that comes
        held = None if session is None else session.lease
        return session if held is not None and held.owner == owner else None

    def take(self, lease: Lease, end: Cursor) -> Session:
        """The session that the store gave us, whose log ends there."""
        key = lease.key
        session = self._sessions.get(key)
        if session is None:
            log = log_from(end, lease.epoch)
            session = self._sessions[key] = Session(key, log, lease)
        else:
            session.claimed(lease, end)
        session.looked_at = self._loop.time()
        return session

    def open(self, key: SessionKey, end: Cursor) -> Session:
        """The session, for a reader; its log ends there, if it is not in use here."""
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = Session(key, log_from(end))
        return session

    def settle(self, session: Session) -> None:
        """Forget the session if nobody needs it any longer."""
        key = session.key
        if session.idle and self._sessions.get(key) is session:
            del self._sessions[key]
        if session.readers or session.watching:
            self.unattended(session)

    def held(self) -> list[Session]:
        """Those whose lease is here."""
        return [session for session in self._sessions.values() if session.lease is not None]

    def watched(self) -> list[Session]:
        """Those of which the store tells us what others write."""
        return [session for session in self._sessions.values() if session.watching]


def _left_alone(session: Session) -> None:
    """Nobody wants to know."""
