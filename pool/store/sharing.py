"""What processes that share a store tell each other through it.

A session belongs to whoever holds its lease: the holder runs its turns and writes its log. Others
leave letters for the holder in the session's inbox, and watch its log. A lease holds as long as its
owner lives: every write of the owner, and its beat (see `join`), keep it alive for another
`lease_s`. What an owner leaves behind when it is gone is found as an orphan, and claimed.

Nudges are hints: one may get lost, so whoever relies on one also looks by itself once in a while.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

from msgspec import Struct

from pool.events import Cursor
from pool.store.lease import Lease, SessionKey
from pool.turn import Turn


class Nudge(NamedTuple):
    """A hint to look again.

    `inbox`: the session, which you hold, has letters, or is watched now. `events`: the session,
    which you watch, has more events. `work`: the session has unfinished turns and no holder. `all`
    (no key): hints may have been lost; look at everything.
    """

    kind: Literal["inbox", "events", "work", "all"]
    key: SessionKey | None = None


class TurnArrived(Struct, frozen=True, tag="turn"):
    """Another process accepted a turn into the session, as its `number`-th."""

    turn_id: str
    number: int


class CancelTurn(Struct, frozen=True, tag="cancel"):
    """Cancel a turn of the session."""

    turn_id: str


class DecideCall(Struct, frozen=True, tag="decide"):
    """A human decided about a pending call of a turn. `user`: who. `asked`: the place in the log
    where the question was put; the same call may be asked about again.
    """

    turn_id: str
    call_id: str
    decision: Literal["approve", "deny"]
    user: str
    reason: str = ""
    asked: int = 0

    @property
    def question(self) -> str:
        """What is decided once."""
        return f"{self.call_id}@{self.asked}"


Signal = CancelTurn | DecideCall


class Letter(NamedTuple):
    """One entry of an inbox, and its place in it (as text; places increase)."""

    place: str
    content: TurnArrived | Signal


class Inbox(NamedTuple):
    """Letters in order, with the turns that arrived among them (by id). `watched`: whether another
    process watches the session's log.
    """

    letters: Sequence[Letter]
    turns: dict[str, Turn]
    watched: bool


class Claim(NamedTuple):
    """A session that was taken over: its lease, of a later epoch than any before; the end of its
    log; its unfinished turns in the order of acceptance, each with its number among all turns that
    the session has accepted (from 1).
    """

    lease: Lease
    end: Cursor
    turns: Sequence[tuple[int, Turn]]


class Replica(Struct, frozen=True):
    """A process that takes part. `status` is what it last announced (b"": nothing yet)."""

    name: str
    status: bytes


class Sharing(Protocol):
    """The part of a store that lets several processes act as one."""

    # Whether other processes may use it at the same time: only then there is anybody to watch for.
    shared: bool
    # How long a lease outlives the last sign of life of its owner, in seconds.
    lease_s: float

    async def join(self, owner: str, nudged: Callable[[Nudge], None]) -> None:
        """Take part as `owner`: its leases are kept alive, out of reach of whoever blocks the
        event loop, until `leave`. `nudged` is called in the loop.
        """

    async def leave(self, owner: str) -> None:
        """Take part no more: what `owner` still holds is an orphan at once. May be called twice."""

    def announce(self, owner: str, status: bytes) -> None:
        """What other processes see of `owner` from its next beat on (at most `lease_s / 3`)."""

    async def replicas(self) -> Sequence[Replica]:
        """Who takes part now, by name; those that are gone for longer than `lease_s` are not."""

    async def claim(self, key: SessionKey, owner: str) -> Claim | None:
        """Take over a session that has unfinished turns, and no live holder or `owner` as such.

        None: another holds it, or there is nothing to do. An owner whose answer was lost calls
        again, and gets the next epoch.
        """

    async def release(self, lease: Lease) -> None:
        """Give a session back with its unfinished turns; all others are nudged (`work`)."""

    async def orphans(self, limit: int) -> Sequence[SessionKey]:
        """Sessions with unfinished turns whose holder is gone, or that nobody holds."""

    async def signal(self, key: SessionKey, signal: Signal) -> bool:
        """Leave a signal for whoever holds the session, now or next; the holder is nudged.

        False, and nothing is kept: the turn has ended or is not of the session, or a decision about
        this `question` was left before (each is decided once).
        """

    async def inbox(self, lease: Lease, after: str) -> Inbox:
        """The letters behind a place ("": from the first). Those up to it are forgotten."""

    async def watch(self, key: SessionKey, owner: str) -> Cursor | None:
        """Be nudged (`events`) about the session's log until `unwatch`, as long as `owner` lives;
        its end now. The holder is nudged (`inbox`) if nobody watched before. None: there is no such
        session.
        """

    async def unwatch(self, key: SessionKey, owner: str) -> None:
        """Be nudged about the session's log no more."""
