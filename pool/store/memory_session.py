"""One session of the memory store, as it is while it is in use: plain objects, nothing encoded."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from itertools import islice, takewhile
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from pool.errors import IdempotencyMismatch, LeaseLost, NotFound, SessionBusy
from pool.store.base import Accepted, Lease, Page, SessionKey
from pool.store.listing import place_of
from pool.store.memory_log import EventLog
from pool.store.memory_mail import Mail
from pool.store.memory_transcript import Entry, Transcript
from pool.turn import SessionInfo, Turn


class TurnEntry(Struct, eq=False):
    """A turn of a session. Its first event lies behind the place `after`."""

    turn: Turn
    after: int
    ended: bool = False


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
    metadata: dict[str, Any] | None = None
    ttl_s: float | None = None

    # how many turns it has had; `turns` holds the newest of them, in the order of acceptance
    accepted: int = 0
    turns: dict[str, TurnEntry] = {}
    # how many of them have not ended
    unfinished: int = 0
    # by idempotency key: the turn's id and its request's digest (None: there are none)
    keys: dict[str, tuple[str, bytes]] | None = None
    log: EventLog = field(default_factory=EventLog)
    transcript: Transcript = field(default_factory=Transcript)

    # the last lease, and whether it was not released since
    lease: Lease | None = None
    held: bool = False
    # what other processes have to do with it (None: nothing)
    mail: Mail | None = None

    # about how many bytes it takes
    size: int = 0

    def accepted_before(
        self, turn: Turn, key: str | None, *, owner: str, holder: str
    ) -> Accepted | None:
        """The answer for a turn that is here already, by its id or its idempotency key.

        `IdempotencyMismatch` if the key was used with another request.
        """
        entry = self.turns.get(turn.id)
        if entry is not None:
            # the caller lost the answer: it gets the same again
            lease = self.lease if holder == owner and not entry.ended else None
            number = self.accepted - len(self.turns) + 1 + list(self.turns).index(turn.id)
            others = lease is not None and self.unfinished > 1
            return Accepted(entry.turn, True, lease, holder, self.log.end, None, number, others)
        used = self.used_key(key) if key is not None else None
        if used is None:
            return None
        earlier, digest = used
        if digest != turn.request.digest(turn.agent):
            raise IdempotencyMismatch(
                f"the idempotency key was used in session {self.key.id} with another request; "
                "use a new key for a new request"
            )
        return Accepted(earlier, False, None, holder, self.log.end)

    def used_key(self, key: str) -> tuple[Turn, bytes] | None:
        """The turn that used an idempotency key, and the digest of its request."""
        if self.keys is None or key not in self.keys:
            return None
        turn_id, digest = self.keys[key]
        return self.turns[turn_id].turn, digest

    def use_key(self, key: str, turn: Turn) -> None:
        """A turn was accepted under an idempotency key."""
        self.keys = self.keys or {}
        self.keys[key] = (turn.id, turn.request.digest(turn.agent))

    def claim(self, owner: str, now: float) -> Lease:
        """Give it to an owner, as it is free. Who held it last keeps the epoch."""
        last = self.lease
        if last is None or last.owner != owner:
            return self.take_over(owner, now)
        self.held = True
        # each claim is an object of its own, so that holders can tell one from the next
        self.lease = lease = Lease(self.key, owner, last.epoch)
        return lease

    def take_over(self, owner: str, now: float) -> Lease:
        """Give it to an owner in a later epoch than any before, whoever has it."""
        last = self.lease
        epoch = int(now * 1_000) or 1
        if last is not None:
            epoch = max(last.epoch + 1, epoch)
            self._part_from_last_owner()
        self.lease = lease = Lease(self.key, owner, epoch)
        self.held = True
        self.log.begin(epoch)
        return lease

    def unended(self) -> list[tuple[int, Turn]]:
        """Its turns that have not ended, in the order of acceptance, with their numbers."""
        entries = enumerate(self.turns.values(), self.accepted - len(self.turns) + 1)
        return [(number, entry.turn) for number, entry in entries if not entry.ended]

    def open_mail(self) -> Mail:
        """Where letters and watchers are put."""
        if self.mail is None:
            self.mail = Mail()
        return self.mail

    @property
    def info(self) -> SessionInfo:
        """The session as callers see it."""
        return SessionInfo(
            id=self.key.id,
            agent=self.agent,
            metadata=self.metadata or {},
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
        entries = islice(self.turns.values(), first, first + limit)
        found = [entry.turn for entry in entries]
        end = first + len(found)
        return Page(found, str(dropped + end) if end < len(self.turns) else None)

    def said_through(self, turn_id: str | None) -> list[Entry]:
        """The transcript up to and including a turn (None: all of it); `NotFound` if not here."""
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
        oldest = islice(self.turns.items(), count)
        gone = {turn_id for turn_id, _ in takewhile(lambda item: item[1].ended, oldest)}
        for turn_id in gone:
            del self.turns[turn_id]
        if self.keys is not None:
            self.keys = {key: used for key, used in self.keys.items() if used[0] not in gone}
        self.transcript.let_go(gone)
        self._trim_log(self.turns.values())
        return gone

    def drop_events(self, before: float) -> int:
        """Drop the events of turns that ended before a time; returns how many."""
        return self._trim_log(
            entry
            for entry in self.turns.values()
            if not entry.ended or (entry.turn.finished_at or self.updated_at) >= before
        )

    def _trim_log(self, kept: Iterable[TurnEntry]) -> int:
        return self.log.trim(min((entry.after for entry in kept), default=self.log.seq))

    def _part_from_last_owner(self) -> None:
        # who held it before may still change the objects that it gave us
        for entry in self.turns.values():
            if not entry.ended:
                entry.turn = replace(entry.turn, usage=copy(entry.turn.usage))


def lease_lost(lease: Lease) -> LeaseLost:
    """What a writer is told that does not hold the session any longer."""
    return LeaseLost(
        f"session {lease.key.id} is no longer held by {lease.owner} at epoch {lease.epoch}; "
        "another owner may have it: this write changed nothing"
    )


def session_busy(session: SessionRecord) -> SessionBusy:
    """What a caller is told who needs the session to be idle."""
    return SessionBusy(
        f"session {session.key.id} has {session.unfinished} turns that have not ended; "
        "wait for them or cancel them, or let the new turn queue or interrupt (if_busy)"
    )
