"""A session that has unfinished turns or readers here: its line of turns, its log, its lease.

Decides who is next; does no I/O.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

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
    # how many turns it has accepted, as far as is known here
    accepted: int = 0
    # the last letter of its inbox that was read
    letter: str = ""
    # when its inbox was last read, or its log fetched, on the loop's clock
    looked_at: float = 0.0
    # whether another process watches it, so that events are stored sooner
    watched: bool = False
    # it was taken over, and its inbox not read yet: none of its turns goes before that
    arriving: bool = False
    # it has a turn of an agent that only other processes serve
    foreign: bool = False
    # whether the store tells us of what other processes write into it
    watching: bool = False
    lock: asyncio.Lock | None = None

    def __repr__(self) -> str:
        current = self.current.phase if self.current else "idle"
        return (
            f"<Session {self.key.id} [{current}, {len(self.line)} in line, {self.readers} readers]>"
        )

    @property
    def held(self) -> bool:
        """Whether its lease is here."""
        return self.lease is not None

    @property
    def outdated(self) -> LiveTurn | None:
        """The running turn, if the store does not know that it runs, or what it has used."""
        turn = self.current
        if turn is None or turn.phase != "running":
            return None
        return None if turn.stored_usage is turn.record.usage else turn

    @property
    def ending(self) -> bool:
        """Whether the end of a turn is on its way to the store."""
        return any(turn.phase == "ending" for turn in self.turns.values())

    @property
    def at_work(self) -> bool:
        """Whether something of it is done here that cannot be left to another process."""
        return self.ending or (self.current is not None and self.current.phase == "running")

    @property
    def idle(self) -> bool:
        """Nobody needs it here: it can be forgotten, the store has it."""
        return not (self.turns or self.readers or self.current or self.lease is not None)

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
        self.lease = lease

    def join(self, turn: LiveTurn) -> bool:
        """Take a turn into the session; True if it is its turn at once."""
        self.turns[turn.record.id] = turn
        if self.current is None:
            self.current = turn
            return True
        if turn.makes_way:
            self.line.insert(0, turn)
        else:
            # nearly always the end; not if it came by a longer way than those accepted after it
            place = len(self.line)
            while place and not self.line[place - 1].makes_way:
                if self.line[place - 1].number <= turn.number:
                    break
                place -= 1
            self.line.insert(place, turn)
        return False

    def restore(self, turns: Sequence[LiveTurn]) -> None:
        """Take in what another process left behind, in the order in which it runs: what had begun,
        what makes way for itself (the latest first), the rest as accepted.
        """
        self.turns.update({turn.record.id: turn for turn in turns})
        self.line.extend(sorted(turns, key=_rank))
        # what is left of the time before may still run
        if self.current is None and self.line:
            self.current = self.line.pop(0)

    def withdraw(self, turn: LiveTurn) -> None:
        """A turn will not run: it leaves the line now, and the session when its end is stored."""
        if turn in self.line:
            self.line.remove(turn)

    def leave(self, turn: LiveTurn) -> LiveTurn | None:
        """A turn ended: the one whose turn it now is, if that changes."""
        turns, turn_id = self.turns, turn.record.id
        # it may have come back, as another, before its old agent had stopped
        if turns.get(turn_id) is turn:
            del turns[turn_id]
        if turn is not self.current:
            return None
        self.current = following = self.line.pop(0) if self.line else None
        return following


def _rank(turn: LiveTurn) -> tuple[int, int]:
    if turn.record.attempt:
        return 0, turn.number
    return (1, -turn.number) if turn.makes_way else (2, turn.number)
