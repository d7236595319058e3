"""The sessions that are in use in this process. All others are at rest in the store."""

from __future__ import annotations

from pool.errors import StoreUnavailable
from pool.events import Cursor
from pool.log import log_from
from pool.session import Session
from pool.store.base import Accepted, SessionKey, Store


class Sessions:
    """Finds a session, makes one when it is needed, forgets it when nobody needs it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sessions: dict[SessionKey, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, key: SessionKey) -> Session | None:
        """The session, if it is in use here."""
        return self._sessions.get(key)

    def unfinished(self, key: SessionKey) -> int:
        """How many turns of the session have not ended."""
        session = self._sessions.get(key)
        return 0 if session is None else len(session.turns)

    def claim(self, key: SessionKey, accepted: Accepted) -> Session:
        """The session of a turn that the store has accepted."""
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = Session(key, log_from(accepted.end))
        if accepted.lease is not None:
            session.claimed(accepted.lease, accepted.end)
        elif session.lease is None:
            self.settle(session)
            raise StoreUnavailable(
                f"session {key.id} is held by another process ({accepted.owner})",
                retry_after_s=1.0,
            )
        return session

    def open(self, key: SessionKey, end: Cursor) -> Session:
        """The session, for a reader; its log ends there, if it is not in use here."""
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = Session(key, log_from(end))
        return session

    def settle(self, session: Session) -> None:
        """Forget the session if nobody needs it any longer."""
        if session.idle and self._sessions.get(session.key) is session:
            del self._sessions[session.key]
