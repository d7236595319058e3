"""The store that keeps everything in this process: fast, bounded, and gone when the process is.

What is in use is kept as the very objects it was given, so that a turn costs next to nothing. What
has been idle for some seconds comes to rest as bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Final

from pool.errors import Conflict, Internal, NotFound, SessionBusy
from pool.events import START, Cursor, Event
from pool.store.base import (
    Accepted,
    AgentState,
    EventPage,
    Lease,
    Page,
    SessionKey,
    StateChange,
)
from pool.store.listing import place_of
from pool.store.memory_limits import MemoryLimits
from pool.store.memory_session import SessionRecord, lease_lost
from pool.store.memory_sessions import EVENT_BYTES, Sessions
from pool.turn import Message, SessionInfo, Turn

# How many sessions a tick looks at: a few milliseconds, if all of them come to rest.
TICK_BUDGET: Final = 500
_new = tuple.__new__


class MemoryStore:
    """A `Store` in memory. No call suspends.

    `clock` gives seconds since the epoch. `lease_ttl_s`: after so long without a write by its holder
    a session may be claimed by another (None: never, which is right when only one pool uses it).
    """

    durable = False
    suspends = False

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        limits: MemoryLimits | None = None,
        lease_ttl_s: float | None = None,
    ) -> None:
        self.limits = limits or MemoryLimits()
        self._clock = clock
        self._lease_ttl_s = inf if lease_ttl_s is None else lease_ttl_s
        self._sessions = Sessions(self.limits)
        self._live = self._sessions.live
        self._version = 0

    def __repr__(self) -> str:
        return f"<MemoryStore {self._sessions!r}>"

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do: what is kept goes with the store itself."""

    async def ping(self) -> None:
        """It always answers."""

    def tick(self) -> None:
        """Bring some idle sessions to rest, drop some that have expired."""
        self.sweep(self._clock(), TICK_BUDGET)

    def sweep(self, now: float, budget: int) -> int:
        """The same at a given time, looking at `budget` sessions; returns how many came to rest."""
        return self._sessions.sweep(now, budget)

    # --- the life of a turn

    async def accept(
        self, turn: Turn, *, owner: str, key: str | None = None, reject_busy: bool = False
    ) -> Accepted:
        """See `Store.accept`. `StoreUnavailable` if the store is full and nothing can be dropped."""
        now = self._clock()
        name = _new(SessionKey, (turn.tenant, turn.session_id))
        sessions = self._sessions
        session = self._live.get(name)
        if session is None or session.expires_at <= now:
            session = sessions.find(name, now)
        if session is not None:
            earlier = session.accepted_before(turn, owner, key)
            if earlier is not None:
                return earlier
            if reject_busy and session.unfinished:
                raise SessionBusy(
                    f"session {turn.session_id} has a turn that has not ended; wait for it, or use "
                    "if_busy queue, interrupt or rollback"
                )
        if session is None:
            if sessions.full(1):
                sessions.make_room(1)
            session = sessions.make(name, now)
        elif sessions.full(0):
            sessions.make_room(0, keep=session)
        session.add(turn, key, now)
        sessions.took(session, turn)
        lease = None
        if session.held_until <= now:
            lease = session.claim(owner, now, now + self._lease_ttl_s)
        holder = session.lease.owner if session.lease is not None else ""
        return _new(Accepted, (turn, True, lease, holder, session.log.end))

    async def append(
        self,
        lease: Lease,
        events: Sequence[Event],
        turn: Turn | None = None,
        state: StateChange | None = None,
    ) -> None:
        """See `Store.append`. `Internal` if the events are not dense, `Conflict` if the turn ended."""
        session = self._held(lease)
        if turn is None and state is not None:
            raise Internal("a checkpoint belongs to a turn; give the store that turn with it")
        if turn is not None and turn.id not in session.unfinished:
            raise Conflict(f"turn {turn.id} has ended or is not of session {lease.key.id}")
        missing = session.log.missing(events, lease.epoch)
        session.log.extend(missing)
        size = EVENT_BYTES * len(missing)
        if turn is not None:
            session.turns[turn.id] = session.unfinished[turn.id] = turn
            if state is not None:
                self._version += 1
                session.transcript.checkpoint(turn, state, self._version)
                size += len(state.data)
        self._sessions.grow(session, size)
        session.held_until = self._clock() + self._lease_ttl_s

    async def commit(
        self, lease: Lease, turn: Turn, events: Sequence[Event], state: StateChange | None = None
    ) -> bool:
        """See `Store.commit`. The state counts if the turn completed; else it stays as it was."""
        session = self._held(lease)
        if turn.id not in session.unfinished:
            if turn.id not in session.turns:
                raise NotFound(f"session {lease.key.id} has no turn {turn.id}")
            return not session.unfinished
        missing = session.log.missing(events, lease.epoch)
        session.log.extend(missing)
        del session.unfinished[turn.id]
        session.turns[turn.id] = turn
        if state is not None:
            self._version += 1
        session.transcript.end(turn, state, self._version)
        self._sessions.ended(session, turn, len(missing), state)
        now = session.updated_at = self._clock()
        if session.unfinished:
            session.held_until = now + self._lease_ttl_s
            return False
        session.held_until = 0.0
        session.expires_at = now + (session.ttl_s or self.limits.session_ttl_s)
        return True

    async def load(self, lease: Lease, agent: str, turn_id: str) -> AgentState:
        """See `Store.load`. Without a state yet: format "", no data, and the whole transcript."""
        return self._held(lease).transcript.state(agent, turn_id)

    async def find_key(self, key: SessionKey, idempotency_key: str) -> tuple[Turn, bytes] | None:
        """See `Store.find_key`. A key lives as long as its turn's record."""
        session = self._find(key)
        used = session.keys.get(idempotency_key) if session is not None else None
        if session is None or used is None:
            return None
        turn_id, digest = used
        return session.turns[turn_id], digest

    # --- reading

    async def turn(self, turn_id: str) -> Turn | None:
        """See `Store.turn`."""
        session = self._sessions.find_turn(turn_id, self._clock())
        return None if session is None else session.turns[turn_id]

    async def turns(self, key: SessionKey, after: str | None, limit: int) -> Page[Turn]:
        """See `Store.turns`."""
        session = self._find(key)
        return _nothing(after) if session is None else session.page(after, limit)

    async def events(self, key: SessionKey, after: Cursor, limit: int) -> EventPage:
        """See `Store.events`. Of an unknown session everything but its beginning is lost."""
        session = self._find(key)
        if session is None:
            return EventPage([], None if after == START else START)
        return session.log.after(after, limit)

    async def turn_start(self, turn_id: str) -> Cursor | None:
        """See `Store.turn_start`. Of a turn without events yet: the end of the log."""
        session = self._sessions.find_turn(turn_id, self._clock())
        return None if session is None else session.log.before(turn_id)

    async def messages(self, key: SessionKey, after: str | None, limit: int) -> Page[Message]:
        """See `Store.messages`."""
        session = self._find(key)
        return _nothing(after) if session is None else session.transcript.page(after, limit)

    # --- sessions

    async def create_session(self, key: SessionKey, info: SessionInfo) -> SessionInfo:
        """See `Store.create_session`. It is made now, whatever times `info` has."""
        return self._make(key, info).info

    async def session(self, key: SessionKey) -> SessionInfo | None:
        """See `Store.session`."""
        return self._sessions.info(key, self._clock())

    async def sessions(self, tenant: str, after: str | None, limit: int) -> Page[SessionInfo]:
        """See `Store.sessions`."""
        return self._sessions.page(tenant, after, limit, self._clock())

    async def delete_session(self, key: SessionKey) -> bool:
        """See `Store.delete_session`."""
        session = self._find(key)
        if session is None:
            return False
        if session.unfinished:
            raise SessionBusy(
                f"session {key.id} has {len(session.unfinished)} turns that have not ended; "
                "cancel them, or wait for them, and delete it then"
            )
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

    # --- operation

    async def dead_letters(self, tenant: str | None, limit: int) -> Sequence[Turn]:
        """See `Store.dead_letters`."""
        found = (
            await self.turn(turn_id) for turn_id in self._sessions.dead_letters_of(tenant, limit)
        )
        return [turn async for turn in found if turn is not None]

    # --- steps

    def _find(self, key: SessionKey) -> SessionRecord | None:
        return self._sessions.find(key, self._clock())

    def _held(self, lease: Lease) -> SessionRecord:
        session = self._live.get(lease.key) or self._find(lease.key)
        if session is None or (session.lease is not lease and session.lease != lease):
            raise lease_lost(lease)
        return session

    def _make(
        self, key: SessionKey, info: SessionInfo, keep: SessionRecord | None = None
    ) -> SessionRecord:
        if self._find(key) is not None:
            raise Conflict(f"there is a session {key.id} already")
        if self._sessions.full(1):
            self._sessions.make_room(1, keep=keep)
        session = self._sessions.make(key, self._clock())
        session.agent = info.agent
        session.metadata = info.metadata
        if info.ttl_s is not None:
            session.ttl_s = info.ttl_s
            session.expires_at = session.created_at + info.ttl_s
        return session


def _nothing(after: str | None) -> Page[Any]:
    place_of(after)
    return Page([], None)
