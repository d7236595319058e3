"""The store that keeps everything in this process: fast, bounded, and gone when the process is.

What is in use is kept as the very objects it was given, so that a turn costs next to nothing. What
has been idle for some seconds comes to rest as bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from pool.errors import Conflict, DeadLetter, Internal, NotFound
from pool.events import Cursor, Event
from pool.store.base import (
    Accepted,
    AgentState,
    Lease,
    SessionKey,
    StateChange,
)
from pool.store.memory_cabinet import Drawers, MemoryCabinet
from pool.store.memory_counters import Counts, MemoryCounters
from pool.store.memory_limits import MemoryLimits
from pool.store.memory_making import MemoryMaking
from pool.store.memory_members import Members
from pool.store.memory_outbox import MemoryOutbox
from pool.store.memory_reads import MemoryReads
from pool.store.memory_session import SessionRecord, TurnEntry, lease_lost, session_busy
from pool.store.memory_sessions import EVENT_BYTES, TURN_BYTES, Sessions
from pool.store.memory_sharing import MemorySharing, not_begun
from pool.store.memory_sweep import Sweep
from pool.store.memory_transfer import MemoryTransfer
from pool.turn import Turn

# How many sessions a tick looks at: a few milliseconds, if all of them come to rest.
TICK_BUDGET: Final = 500
# what a named tuple's own constructor does, in half the time
_new = tuple.__new__


class MemoryStore(
    MemoryReads,
    MemoryMaking,
    MemorySharing,
    MemoryOutbox,
    MemoryTransfer,
    MemoryCabinet,
    MemoryCounters,
):
    """A `Store` in memory. No call suspends.

    `clock` gives seconds since the epoch. `lease_ttl_s`: how long a lease outlives the last sign of
    life of its owner (None: until the owner leaves, right while only one pool uses the store).
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
        self.lease_s = inf if lease_ttl_s is None else lease_ttl_s
        self.shared = lease_ttl_s is not None
        self.members = Members(clock, self.lease_s)
        super().__init__(Sessions(self.limits), self.members, clock)
        self._mortal = self.members.mortal
        self._sweep = Sweep(self._sessions)
        self._drawers = Drawers(self.limits.max_bytes // 4)
        self._counts = Counts()
        self._live = self._sessions.live
        self._max_bytes = self.limits.max_bytes
        self._session_ttl_s = self.limits.session_ttl_s
        self._max_turns = self.limits.max_turns_per_session
        self._max_entries = self.limits.max_entries_per_session

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
        return self._sweep.run(now, budget)

    # --- the life of a turn

    async def accept(
        self,
        turn: Turn,
        *,
        owner: str,
        key: str | None = None,
        reject_busy: bool = False,
        with_state: bool = False,
    ) -> Accepted:
        """See `Store.accept`. `StoreUnavailable` if the store is full and nobody is idle."""
        now = self._clock()
        if self._mortal:
            self._members.seen(owner, now)
        sessions = self._sessions
        name = _new(SessionKey, (turn.tenant, turn.session_id))
        session = self._live.get(name)
        if session is None or session.expires_at <= now:
            session = sessions.find(name, now)
        if session is not None:
            if key is not None or turn.id in session.turns:
                holder = self._holder(session, now)
                earlier = session.accepted_before(turn, key, owner=owner, holder=holder)
                if earlier is not None:
                    return _with_state(session, earlier) if with_state else earlier
            if reject_busy and session.unfinished:
                raise session_busy(session)
            if sessions.size > self._max_bytes:
                sessions.make_room(0, keep=session)
        else:
            session = sessions.make(name, now)

        if session.held or not owner:
            lease, holder = self._meet(session, owner, now)
        else:
            lease, holder = session.claim(owner, now), owner
        log = session.log
        end = _new(Cursor, (log.end_epoch, log.base + len(log.events)))
        session.turns[turn.id] = TurnEntry(turn, end[1])
        sessions.index[turn.id] = session.name
        if key is not None:
            session.use_key(key, turn)
        session.unfinished += 1
        session.accepted += 1
        session.updated_at = now
        session.expires_at = inf
        size = TURN_BYTES + len(turn.request.input)
        session.size += size
        sessions.size += size
        if holder != owner or not owner:
            self._pass_on(session, turn, holder)
        elif lease is None and turn.state != "queued":
            session.turns[turn.id].turn = not_begun(turn)
        state = None
        if with_state and lease is not None:
            state = session.transcript.state(turn.agent, turn.id)
        others = lease is not None and session.unfinished > 1
        return _new(Accepted, (turn, True, lease, holder, end, state, session.accepted, others))

    async def append(
        self,
        lease: Lease,
        events: Sequence[Event],
        turn: Turn | None = None,
        state: StateChange | None = None,
    ) -> bool:
        """See `Store.append`. `Internal` if events are not dense, `Conflict` if the turn ended."""
        session = self._held(lease)
        if not session.held:
            raise lease_lost(lease)
        if turn is None and state is not None:
            raise Internal("a checkpoint belongs to a turn; give the store that turn with it")
        entry = session.turns.get(turn.id) if turn is not None else None
        if turn is not None and (entry is None or entry.ended):
            raise Conflict(f"turn {turn.id} has ended or is not of session {lease.key.id}")
        size = EVENT_BYTES * session.log.add(events, lease.epoch)
        if turn is not None and entry is not None:
            entry.turn = turn
            if state is not None:
                session.transcript.checkpoint(turn, state, self._sessions.next_version())
                size += len(state.data)
        self._sessions.grow(session, size)
        if self._mortal:
            self._members.seen(lease.owner, self._clock())
        return session.mail is not None and self._tell_watchers(session)

    async def commit(
        self, lease: Lease, turn: Turn, events: Sequence[Event], state: StateChange | None = None
    ) -> bool:
        """See `Store.commit`. The state counts if the turn completed; else it stays as it was."""
        session = self._live.get(lease.key)
        if session is None or session.lease is not lease:
            session = self._held(lease)
        entry = session.turns.get(turn.id)
        if entry is None:
            raise NotFound(f"session {lease.key.id} has no turn {turn.id}")
        if entry.ended:
            return not session.unfinished
        if not session.held:
            raise lease_lost(lease)
        # the output is in the turn and in its deltas
        size = EVENT_BYTES * session.log.add(events, lease.epoch) + 2 * len(turn.output)
        entry.turn = turn
        entry.ended = True
        session.unfinished -= 1
        version = 0
        if state is not None:
            version = self._sessions.next_version()
            size += len(state.data)
        session.transcript.end(turn, state, version)
        if turn.error is not None and turn.error.code == DeadLetter.code:
            self._sessions.dead_letters[turn.id] = None
        session.size += size
        self._sessions.size += size
        if (
            len(session.turns) > self._max_turns
            or len(session.transcript.entries) > self._max_entries
        ):
            self._sessions.bound(session)
        now = session.updated_at = self._clock()
        if self._mortal:
            self._members.seen(lease.owner, now)
        if turn.request.webhook is not None:
            self._sessions.deliveries.add(turn.id, now)
        if session.mail is not None:
            self._tell_watchers(session)
        if session.unfinished:
            return False
        session.held = False
        if session.mail is not None:
            session.mail.clear()
        session.expires_at = now + (session.ttl_s or self._session_ttl_s)
        return True

    async def load(self, lease: Lease, agent: str, turn_id: str) -> AgentState:
        """See `Store.load`. Without a state yet: format "", no data, and the whole transcript."""
        return self._held(lease).transcript.state(agent, turn_id)


def _with_state(session: SessionRecord, accepted: Accepted) -> Accepted:
    if accepted.lease is None:
        return accepted
    turn = accepted.turn
    return accepted._replace(state=session.transcript.state(turn.agent, turn.id))
