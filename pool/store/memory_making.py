"""Sessions of a memory store that are made, deleted and forked by request."""

from __future__ import annotations

from pool.errors import Conflict, NotFound
from pool.store.lease import SessionKey
from pool.store.memory_part import MemoryPart
from pool.store.memory_session import SessionRecord, session_busy
from pool.turn import SessionInfo


class MemoryMaking(MemoryPart):
    """The part of a memory store that makes and deletes sessions."""

    async def create_session(self, key: SessionKey, info: SessionInfo) -> SessionInfo:
        """See `Store.create_session`. It is made now, whatever times `info` has."""
        return self._make(key, info).info

    async def delete_session(self, key: SessionKey) -> bool:
        """See `Store.delete_session`."""
        session = self._find(key)
        if session is None:
            return False
        if session.unfinished:
            raise session_busy(session)
        self._sessions.forget(session)
        return True

    async def fork_session(
        self, key: SessionKey, new: SessionKey, through_turn: str | None
    ) -> SessionInfo:
        """See `Store.fork_session`. Agent, metadata and `ttl_s` are those of the old one."""
        session = self._find(key)
        if session is None:
            raise NotFound(f"there is no session {key.id}")
        entries = session.said_through(through_turn)
        fork = self._make(new, session.info, keep=session)
        fork.transcript.entries = entries
        return fork.info

    def _make(
        self, key: SessionKey, info: SessionInfo, keep: SessionRecord | None = None
    ) -> SessionRecord:
        if self._find(key) is not None:
            raise Conflict(f"there is a session {key.id} already")
        session = self._sessions.make(key, self._clock(), keep=keep)
        session.agent = info.agent
        session.metadata = info.metadata
        if info.ttl_s is not None:
            session.ttl_s = info.ttl_s
            session.expires_at = session.created_at + info.ttl_s
        return session
