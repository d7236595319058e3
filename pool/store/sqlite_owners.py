"""Who takes part in a SQLite store: whose leases hold, who watches, who is told to look again.

The lock on the file says that no other server uses it. So whoever takes part does so in this
process, and what is to be known of them is kept here: it goes with the process, as they do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from msgspec import Struct

from pool.store.lease import SessionKey
from pool.store.sharing import Nudge, Replica
from pool.store.sqlite_record import SessionRecord


class Telling(NamedTuple):
    """A nudge that is due once its transaction is done: for one owner (None: all), save one."""

    nudge: Nudge
    to: str | None = None
    but: str = ""


class _Member(Struct, eq=False):
    nudged: Callable[[Nudge], None]
    status: bytes = b""


class Owners:
    """The owners of one store. Times are seconds since the epoch.

    Read by the store's threads, too: each method does one step that threads see whole.
    `exclusive`: whether this process holds the lock. If not, owners may live in another one.
    """

    def __init__(self, lease_s: float, *, exclusive: bool) -> None:
        self.lease_s = lease_s
        # of the server whose leases hold; leases of others are void
        self.generation = 0
        self.exclusive = exclusive
        self._joined: dict[str, _Member] = {}
        # until when the leases of those hold that have not joined
        self._until: dict[str, float] = {}
        self._left: set[str] = set()
        # by session: who watches its log
        self.watched: dict[SessionKey, tuple[str, ...]] = {}

    def __repr__(self) -> str:
        return f"<Owners [{', '.join(sorted(self._joined))}]>"

    # --- life

    def alive(self, owner: str, now: float) -> bool:
        """Whether an owner's leases hold. Who has joined lives as long as this process."""
        return owner in self._joined or self._until.get(owner, 0.0) > now or not self.exclusive

    def holder(self, record: SessionRecord, now: float) -> str:
        """Who holds a session and lives; "" if nobody does."""
        held = self.granted(record) and self.alive(record.owner, now)
        return record.owner if held else ""

    def granted(self, record: SessionRecord) -> bool:
        """Whether the session's lease was neither released nor is void."""
        return record.held != 0 and record.held == self.generation

    def wrote(self, owner: str, now: float) -> None:
        """An owner has written: it lives."""
        if owner and owner not in self._joined:
            self._until[owner] = now + self.lease_s

    def lapsed(self, now: float) -> set[str]:
        """The owners that are gone since this was asked last."""
        gone = {owner for owner, until in list(self._until.items()) if until <= now}
        for owner in gone:
            self._until.pop(owner, None)
        gone |= self._left
        self._left = set()
        return gone

    def unburied(self, gone: set[str]) -> None:
        """It could not be noted that these are gone: they are to be told again."""
        self._left |= gone

    # --- taking part

    def join(self, owner: str, nudged: Callable[[Nudge], None]) -> None:
        """An owner lives, and is nudged, until it leaves. Who joins again goes on."""
        before = self._joined.get(owner)
        self._joined[owner] = _Member(nudged, b"" if before is None else before.status)
        self._left.discard(owner)

    def leave(self, owner: str) -> None:
        """An owner is gone, and watches no more."""
        self._joined.pop(owner, None)
        self._until.pop(owner, None)
        self._left.add(owner)
        for key in [key for key, watching in self.watched.items() if owner in watching]:
            self.unwatch(key, owner)

    def announce(self, owner: str, status: bytes) -> None:
        """What others see of an owner; nothing if it has not joined."""
        member = self._joined.get(owner)
        if member is not None:
            member.status = status

    def replicas(self) -> Sequence[Replica]:
        """Who takes part, by name."""
        return [Replica(owner, self._joined[owner].status) for owner in sorted(self._joined)]

    # --- watching

    def watch(self, key: SessionKey, owner: str) -> None:
        """An owner watches a session's log."""
        if owner not in self.watched.get(key, ()):
            self.watched[key] = (*self.watched.get(key, ()), owner)

    def unwatch(self, key: SessionKey, owner: str) -> None:
        """It does no more."""
        left = tuple(other for other in self.watched.get(key, ()) if other != owner)
        if left:
            self.watched[key] = left
        else:
            self.watched.pop(key, None)

    def watching(self, key: SessionKey, *, but: str) -> Sequence[str]:
        """Who watches a session, save one."""
        return [owner for owner in self.watched.get(key, ()) if owner != but]

    # --- nudges

    def tell(self, tellings: Iterable[Telling]) -> None:
        """Nudge whoever is meant and has joined. Called in the loop, after the transaction."""
        loop = asyncio.get_running_loop()
        for nudge, to, but in tellings:
            for owner in self._joined if to is None else (to,):
                if owner != but:
                    loop.call_soon(self._deliver, owner, nudge)

    def _deliver(self, owner: str, nudge: Nudge) -> None:
        # it may have left in between
        member = self._joined.get(owner)
        if member is not None:
            member.nudged(nudge)
