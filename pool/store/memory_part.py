"""What the parts of a memory store have in common."""

from __future__ import annotations

from collections.abc import Callable

from pool.store.lease import Lease, SessionKey
from pool.store.memory_members import Members
from pool.store.memory_session import SessionRecord, lease_lost
from pool.store.memory_sessions import Sessions
from pool.store.sharing import Nudge


class MemoryPart:
    """One part of a memory store. `clock` gives seconds since the epoch."""

    def __init__(self, sessions: Sessions, members: Members, clock: Callable[[], float]) -> None:
        self._sessions = sessions
        self._members = members
        self._clock = clock

    def _find(self, key: SessionKey) -> SessionRecord | None:
        return self._sessions.find(key, self._clock())

    def _held(self, lease: Lease) -> SessionRecord:
        """The session, if this is its last lease; released or not."""
        session = self._sessions.live.get(lease.key) or self._find(lease.key)
        if session is None or (session.lease is not lease and session.lease != lease):
            raise lease_lost(lease)
        return session

    def _holder(self, session: SessionRecord, now: float) -> str:
        """Who holds the session and lives; "" if nobody does."""
        lease = session.lease
        if lease is None or not session.held or not self._members.alive(lease.owner, now):
            return ""
        return lease.owner

    def _offer(self, session: SessionRecord, *, but: str = "") -> None:
        """A session has unfinished turns and no holder: tell everybody, save one."""
        self._sessions.orphaned[session.key] = None
        self._members.nudge_all(Nudge("work", session.key), but=but)
