"""A session that has unfinished turns or readers here: its line of turns, its log, its lease.

Decides who is next; does no I/O.
"""

from __future__ import annotations

import asyncio

from msgspec import Struct, field

from pool.events import Cursor
from pool.live import LiveTurn
from pool.log import Log
from pool.store.base import Lease, SessionKey


class Session(Struct, eq=False):
    """At most one turn of a session is current (running, or waiting for an approval); others line
    up.
    """

    key: SessionKey
    log: Log
    # held while there are unfinished turns
    lease: Lease | None = None
    # those that have not ended, by id
    turns: dict[str, LiveTurn] = field(default_factory=dict)
    current: LiveTurn | None = None
    line: list[LiveTurn] = field(default_factory=list)
    readers: int = 0
    lock: asyncio.Lock | None = None

    def __repr__(self) -> str:
        current = self.current.phase if self.current else "idle"
        return (
            f"<Session {self.key.id} [{current}, {len(self.line)} in line, {self.readers} readers]>"
        )

    @property
    def idle(self) -> bool:
        """Nobody needs it here: it can be forgotten, the store has it."""
        return not self.turns and not self.readers and self.lease is None

    @property
    def writing(self) -> asyncio.Lock:
        """Held while something is written to the store, so that events reach it in order."""
        if self.lock is None:
            self.lock = asyncio.Lock()
        return self.lock

    def claimed(self, lease: Lease, end: Cursor) -> None:
        """The store gave us the session, whose log ends there."""
        if self.lease is None or self.lease.epoch != lease.epoch:
            self.log.resume(Cursor(lease.epoch, end.seq))
        # an object of its own: a release that is still on its way is not this claim's
        self.lease = Lease(lease.key, lease.owner, lease.epoch)

    def join(self, turn: LiveTurn, *, first: bool = False) -> bool:
        """Take a turn into the session; True if it is its turn at once."""
        self.turns[turn.record.id] = turn
        if self.current is None:
            self.current = turn
            return True
        if first:
            self.line.insert(0, turn)
        else:
            self.line.append(turn)
        return False

    def withdraw(self, turn: LiveTurn) -> None:
        """A turn will not run: it leaves the line now, and the session when its end is stored."""
        if turn in self.line:
            self.line.remove(turn)

    def leave(self, turn: LiveTurn) -> LiveTurn | None:
        """A turn ended: the one whose turn it now is, if that changes."""
        del self.turns[turn.record.id]
        if turn is not self.current:
            return None
        self.current = self.line.pop(0) if self.line else None
        return self.current
