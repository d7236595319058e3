"""One session of the memory store, as it is while it is in use: plain objects, nothing encoded."""

from __future__ import annotations

from copy import copy
from itertools import islice
from math import inf
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from pool.errors import IdempotencyMismatch, LeaseLost, NotFound
from pool.store.base import Accepted, Lease, Page, SessionKey
from pool.store.listing import place_of
from pool.store.memory_log import EventLog
from pool.store.memory_transcript import Entry, Transcript
from pool.turn import SessionInfo, Turn


class SessionRecord(Struct, eq=False):
    """A session with everything in it. Times are seconds since the epoch."""

    key: SessionKey
    # `<tenant>/<id>`: what it is called in the indexes
    name: str
    # its place among all sessions in the order of their making
    number: int
    created_at: float
    updated_at: float
    # infinite while a turn is unfinished
    expires_at: float
    agent: str | None = None
    metadata: dict[str, Any] = {}
    ttl_s: float | None = None

    # how many turns it has had; `turns` holds the newest of them, in the order of acceptance
    accepted: int = 0
    turns: dict[str, Turn] = {}
    unfinished: dict[str, Turn] = {}
    # by idempotency key: the turn's id and its request's digest
    keys: dict[str, tuple[str, bytes]] = {}
    log: EventLog = field(default_factory=EventLog)
    transcript: Transcript = field(default_factory=Transcript)

    # the last lease, held until then (0: it was released)
    lease: Lease | None = None
    held_until: float = 0.0

    # about how many bytes it takes
    size: int = 0
    # it holds what cannot be packed, and stays as it is
    restless: bool = False

    def accepted_before(self, turn: Turn, owner: str, key: str | None) -> Accepted | None:
        """The answer for a turn that is here already, by its id or its idempotency key.

        `IdempotencyMismatch` if the key was used with another request.
        """
        holder = self.lease.owner if self.lease is not None and self.unfinished else ""
        kept = self.turns.get(turn.id)
        if kept is not None:
            # the caller lost the answer: it gets the same again
            mine = self.lease if holder == owner and turn.id in self.unfinished else None
            return Accepted(kept, True, mine, holder, self.log.end)
        if key is None or key not in self.keys:
            return None
        turn_id, digest = self.keys[key]
        if digest != turn.request.digest(turn.agent):
            raise IdempotencyMismatch(
                f"the idempotency key was used in session {self.key.id} with another request; "
                "use a new key for a new request"
            )
        return Accepted(self.turns[turn_id], False, None, holder, self.log.end)

    def add(self, turn: Turn, key: str | None, now: float) -> None:
        """Keep a new turn, in order."""
        self.turns[turn.id] = self.unfinished[turn.id] = turn
        if key is not None:
            self.keys[key] = (turn.id, turn.request.digest(turn.agent))
        self.accepted += 1
        self.updated_at = now
        self.expires_at = inf

    def claim(self, owner: str, now: float, until: float) -> Lease:
        """Give it to an owner. Who held it last keeps the epoch, another gets a later one."""
        lease = self.lease
        if lease is None or lease.owner != owner:
            epoch = max(1 if lease is None else lease.epoch + 1, int(now * 1_000))
            lease = self.lease = Lease(self.key, owner, epoch)
            self.log.begin(epoch)
            self._part_from_last_owner()
        self.held_until = until
        return lease

    @property
    def info(self) -> SessionInfo:
        """The session as callers see it."""
        return SessionInfo(
            id=self.key.id,
            agent=self.agent,
            metadata=self.metadata,
            ttl_s=self.ttl_s,
            created_at=self.created_at,
            updated_at=self.updated_at,
            turns=self.accepted,
            cursor=str(self.log.end),
        )

    def page(self, after: str | None, limit: int) -> Page[Turn]:
        """A page of its turns. The n-th turn that it accepted has the place n."""
        dropped = self.accepted - len(self.turns)
        first = max(0, place_of(after) - dropped)
        found = list(islice(self.turns.values(), first, first + limit))
        end = first + len(found)
        return Page(found, str(dropped + end) if end < len(self.turns) else None)

    def said_through(self, turn_id: str | None) -> list[Entry]:
        """The transcript up to and including a turn (None: all of it); `NotFound` if it has none."""
        if turn_id is None:
            return list(self.transcript.entries)
        order = list(self.turns)
        later = order[order.index(turn_id) + 1 :] if turn_id in self.turns else None
        entries = self.transcript.through(turn_id, later)
        if entries is None:
            raise NotFound(f"session {self.key.id} has no turn {turn_id}")
        return entries

    def drop_turns(self, count: int) -> set[str]:
        """Drop the records of the oldest ended turns, and the events before those that stay."""
        gone = set()
        for turn_id in islice(self.turns, count):
            if turn_id in self.unfinished:
                break
            gone.add(turn_id)
        for turn_id in gone:
            del self.turns[turn_id]
        self.keys = {key: used for key, used in self.keys.items() if used[0] not in gone}
        self.transcript.let_go(gone)
        self.log.trim(self.log.first_of(self.turns))
        for turn_id in gone:
            self.log.starts.pop(turn_id, None)
        return gone

    def drop_events(self, before: float) -> int:
        """Drop the events of turns that ended before a time; returns how many."""
        kept = [
            turn.id
            for turn in self.turns.values()
            if turn.id in self.unfinished or (turn.finished_at or turn.created_at) >= before
        ]
        return self.log.trim(self.log.first_of(kept))

    def _part_from_last_owner(self) -> None:
        # who held it before may still change the objects that it gave us
        for turn in self.unfinished.values():
            own = replace(turn, usage=copy(turn.usage))
            self.unfinished[own.id] = self.turns[own.id] = own


def lease_lost(lease: Lease) -> LeaseLost:
    """What a writer is told that does not hold the session any longer."""
    return LeaseLost(
        f"session {lease.key.id} is no longer held by {lease.owner} at epoch {lease.epoch}; "
        "another owner may have it: this write changed nothing"
    )
