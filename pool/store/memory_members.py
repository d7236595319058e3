"""Who takes part in a memory store: whose leases hold, and who is told to look again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import inf

from msgspec import Struct

from pool.store.sharing import Nudge, Replica

# How often in a lease's time an owner that has joined shows that it lives.
BEATS_PER_LEASE = 3


class Member(Struct, eq=False):
    """One that has joined. `beat`: its next sign of life, if leases end at all."""

    loop: asyncio.AbstractEventLoop
    nudged: Callable[[Nudge], None]
    status: bytes = b""
    beat: asyncio.TimerHandle | None = None


class Members:
    """The owners of one store. Times are seconds since the epoch, `lease_s` may be infinite.

    With infinite leases an owner lives until it leaves, so that nothing is noted while it writes.
    """

    def __init__(self, clock: Callable[[], float], lease_s: float) -> None:
        self.lease_s = lease_s
        # whether an owner's leases end when it is silent
        self.mortal = lease_s < inf
        self._clock = clock
        self._joined: dict[str, Member] = {}
        # until when an owner's leases hold
        self._until: dict[str, float] = {}
        self._unseen = 0.0 if self.mortal else inf

    def __repr__(self) -> str:
        return f"<Members [{', '.join(sorted(self._joined))}]>"

    # --- life

    def alive(self, owner: str, now: float) -> bool:
        """Whether an owner's leases hold."""
        return self._until.get(owner, self._unseen) > now

    def seen(self, owner: str, now: float) -> None:
        """An owner has written: it lives."""
        if owner:
            self._until[owner] = now + self.lease_s

    def lapsed(self, now: float) -> set[str]:
        """The owners that have fallen silent since this was asked last."""
        if not self.mortal:
            return set()
        gone = {owner for owner, until in self._until.items() if until <= now}
        for owner in gone:
            del self._until[owner]
        return gone

    # --- taking part

    def join(self, owner: str, nudged: Callable[[Nudge], None]) -> None:
        """Keep an owner alive, and nudge it, until it leaves. Who joins again goes on."""
        self.silence(owner)
        before = self._joined.get(owner)
        status = b"" if before is None else before.status
        self._joined[owner] = member = Member(asyncio.get_running_loop(), nudged, status)
        self._beat(owner, member)

    def leave(self, owner: str) -> None:
        """An owner is gone."""
        self.silence(owner)
        self._joined.pop(owner, None)
        self._until[owner] = 0.0

    def silence(self, owner: str) -> None:
        """Nothing keeps an owner alive until it joins again, as if its process had stopped."""
        member = self._joined.get(owner)
        if member is not None and member.beat is not None:
            member.beat.cancel()
            member.beat = None

    def announce(self, owner: str, status: bytes) -> None:
        """What others see of an owner; nothing if it has not joined."""
        member = self._joined.get(owner)
        if member is not None:
            member.status = status

    def replicas(self, now: float) -> Sequence[Replica]:
        """Who takes part and lives, by name."""
        return [
            Replica(owner, self._joined[owner].status)
            for owner in sorted(self._joined)
            if self.alive(owner, now)
        ]

    def _beat(self, owner: str, member: Member) -> None:
        self.seen(owner, self._clock())
        if self.mortal:
            every_s = self.lease_s / BEATS_PER_LEASE
            member.beat = member.loop.call_later(every_s, self._beat, owner, member)

    # --- nudges

    def nudge(self, owner: str, nudge: Nudge) -> None:
        """Tell one of them, soon: never from within the call that is the reason."""
        member = self._joined.get(owner)
        if member is not None:
            member.loop.call_soon(self._deliver, owner, member, nudge)

    def nudge_all(self, nudge: Nudge, *, but: str = "") -> None:
        """Tell everybody who has joined, save one."""
        for owner in self._joined:
            if owner != but:
                self.nudge(owner, nudge)

    def _deliver(self, owner: str, member: Member, nudge: Nudge) -> None:
        # it may have left in between
        if self._joined.get(owner) is member:
            member.nudged(nudge)
