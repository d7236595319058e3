"""A session as a row of the SQLite store: what changes with its turns, and the rules of its lease
and its log. Nothing here touches the database.
"""

from __future__ import annotations

from math import inf
from typing import Final

import msgspec
from msgspec import Struct

from pool.errors import LeaseLost, SessionBusy
from pool.events import START, Cursor
from pool.store.codec import decode_plain
from pool.store.lease import Lease, SessionKey
from pool.store.sharing import CancelTurn, DecideCall, TurnArrived
from pool.store.sqlite_schema import PLACE_BITS
from pool.turn import SessionInfo

# what a named tuple's own constructor does, in half the time
_new = tuple.__new__


class Unfinished(Struct, array_like=True, gc=False):
    """A turn that has not ended. Its first event lies behind the place `after`."""

    turn_id: str
    number: int
    after: int
    # the questions that were decided
    decided: list[str] = []


class KeptState(Struct, array_like=True, gc=False):
    """An agent's state: how many entries of the transcript it has seen, how many parts it has."""

    format: str
    version: int
    seen: int
    parts: int


class SessionRecord(Struct, array_like=True, gc=False):
    """A session. Times are seconds since the epoch. Fields are only ever added, at the end."""

    num: int
    tenant: str
    id: str
    created_at: float
    updated_at: float
    # unfinished turns in the order of acceptance; how many it has had; how many were dropped
    line: list[Unfinished] = []
    accepted: int = 0
    dropped: int = 0
    # the log: its end, the place up to which it was trimmed, and where each epoch began
    end_epoch: int = 0
    end_seq: int = 0
    base: int = 0
    epochs: list[tuple[int, int]] = []
    # The last lease. `held`: the generation of the server that gave it, 0 once it was released.
    owner: str = ""
    epoch: int = 0
    held: int = 0
    # how many entries the transcript has had, how many of them were dropped
    entries: int = 0
    entries_dropped: int = 0
    agent: str | None = None
    # as JSON
    metadata: bytes | None = None
    ttl_s: float | None = None
    # how many states there have been; by agent; and by turn
    versions: int = 0
    states: dict[str, KeptState] = {}
    checkpoints: dict[str, KeptState] = {}
    # letters with their places; the place of the newest, and of the newest that was read
    letters: list[tuple[int, TurnArrived | CancelTurn | DecideCall]] = []
    letter_place: int = 0
    letters_read: int = 0
    # up to which turn events were dropped for their age
    aged: int = 0

    @property
    def key(self) -> SessionKey:
        """What it is called."""
        return _new(SessionKey, (self.tenant, self.id))

    @property
    def end(self) -> Cursor:
        """The end of its log."""
        return _new(Cursor, (self.end_epoch, self.end_seq))

    @property
    def info(self) -> SessionInfo:
        """The session as callers see it."""
        return SessionInfo(
            id=self.id,
            agent=self.agent,
            metadata={} if self.metadata is None else decode_plain(self.metadata),
            ttl_s=self.ttl_s,
            created_at=self.created_at,
            updated_at=self.updated_at,
            turns=self.accepted,
            cursor=str(self.end),
        )

    def place(self, count: int) -> int:
        """Where something of the session is kept."""
        return self.num << PLACE_BITS | count

    def has(self, place: int) -> bool:
        """Whether what is kept at a place belongs to it."""
        return place >> PLACE_BITS == self.num

    def expires_at(self, ttl_s: float) -> float:
        """When it is gone if nothing happens; `ttl_s` if it has none of its own."""
        return inf if self.line else self.updated_at + (self.ttl_s or ttl_s)

    def unfinished(self, turn_id: str) -> Unfinished | None:
        """The turn, if it is here and has not ended."""
        for entry in self.line:
            if entry.turn_id == turn_id:
                return entry
        return None

    # --- the lease

    def claim(self, owner: str, now: float, generation: int) -> Lease:
        """Give it to an owner, as it was released. Who held it last keeps the epoch."""
        if self.owner != owner or not self.epoch:
            return self.take_over(owner, now, generation)
        self.held = generation
        return Lease(self.key, owner, self.epoch)

    def take_over(self, owner: str, now: float, generation: int) -> Lease:
        """Give it to an owner in a later epoch than any before, whoever has it."""
        self.owner, self.held = owner, generation
        self.epoch = epoch = max(self.epoch + 1, int(now * 1_000))
        self.epochs.append((epoch, self.end_seq + 1))
        if not self.end_seq:
            self.end_epoch = epoch
        return Lease(self.key, owner, epoch)

    def release(self) -> None:
        """Nobody holds it; who did may go on in its epoch if nobody else does meanwhile."""
        self.held = 0

    def put_letter(self, content: TurnArrived | CancelTurn | DecideCall) -> None:
        """Leave a letter for whoever holds it."""
        self.letter_place += 1
        self.letters.append((self.letter_place, content))

    def has_letter(self, content: CancelTurn) -> bool:
        """Whether such a letter waits that nobody has read."""
        return any(
            place > self.letters_read and letter == content for place, letter in self.letters
        )

    # --- the log

    def lost_after(self, cursor: Cursor) -> Cursor | None:
        """Where reading goes on if what came after the cursor is gone; None if it is there."""
        if cursor.seq < self.base:
            return self.cursor(self.base)
        if cursor == START:
            return None
        following = None
        for epoch, first in reversed(self.epochs):
            if epoch == cursor.epoch:
                if following is None or cursor.seq < following:
                    return None
                # past the end of an epoch that is over: those events never came here
                return Cursor(epoch, following - 1)
            following = first
        return self.cursor(self.base)

    def cursor(self, seq: int) -> Cursor:
        """The cursor of the event at a place."""
        if not seq:
            return START
        for epoch, first in reversed(self.epochs):
            if first <= seq:
                return Cursor(epoch, seq)
        return Cursor(self.epochs[0][0] if self.epochs else 0, seq)

    def trim(self, seq: int) -> None:
        """What is up to a place cannot be replayed any more."""
        self.base = max(self.base, min(seq, self.end_seq))
        while len(self.epochs) > 1 and self.epochs[1][1] <= self.base:
            del self.epochs[0]


_encoder: Final = msgspec.msgpack.Encoder()
encode_record: Final = _encoder.encode
decode_record: Final = msgspec.msgpack.Decoder(SessionRecord).decode


def lease_lost(lease: Lease) -> LeaseLost:
    """What a writer is told that does not hold the session any longer."""
    return LeaseLost(
        f"session {lease.key.id} is no longer held by {lease.owner} at epoch {lease.epoch}; "
        "another owner may have it: this write changed nothing"
    )


def busy(record: SessionRecord) -> SessionBusy:
    """What a caller is told who needs a session without unfinished turns."""
    return SessionBusy(
        f"session {record.id} has {len(record.line)} turns that have not ended; "
        "wait for them or cancel them, or let the new turn queue or interrupt (if_busy)"
    )
