"""How several pools act as one on a memory store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy

from msgspec.structs import replace

from pool.events import Cursor
from pool.store.lease import Lease, SessionKey
from pool.store.listing import place_of
from pool.store.memory_part import MemoryPart
from pool.store.memory_session import SessionRecord, lease_lost
from pool.store.sharing import Claim, Inbox, Nudge, Replica, Signal, TurnArrived
from pool.turn import Turn


class MemorySharing(MemoryPart):
    """The part of a memory store in which owners meet."""

    # --- taking part

    async def join(self, owner: str, nudged: Callable[[Nudge], None]) -> None:
        """See `Sharing.join`. In memory only the loop itself can keep it alive."""
        self._members.join(owner, nudged)

    async def leave(self, owner: str) -> None:
        """See `Sharing.leave`."""
        self._members.leave(owner)
        self._bury({owner})

    def announce(self, owner: str, status: bytes) -> None:
        """See `Sharing.announce`. It is seen at once."""
        self._members.announce(owner, status)

    async def replicas(self) -> Sequence[Replica]:
        """See `Sharing.replicas`."""
        return self._members.replicas(self._clock())

    # --- sessions that change hands

    async def claim(self, key: SessionKey, owner: str) -> Claim | None:
        """See `Sharing.claim`."""
        now = self._clock()
        session = self._find(key)
        if session is None or not session.unfinished:
            return None
        if self._holder(session, now) not in ("", owner):
            return None
        lease = session.take_over(owner, now)
        self._members.seen(owner, now)
        return Claim(lease, session.log.end, session.unended())

    async def release(self, lease: Lease) -> None:
        """See `Sharing.release`. Releasing again what nobody else has claimed changes nothing."""
        session = self._held(lease)
        if not session.held:
            return
        session.held = False
        self._members.seen(lease.owner, self._clock())
        self._offer(session, but=lease.owner)

    async def orphans(self, limit: int) -> Sequence[SessionKey]:
        """See `Sharing.orphans`."""
        now = self._clock()
        gone = self._members.lapsed(now)
        if gone:
            self._bury(gone)
        found: list[SessionKey] = []
        for key in list(self._sessions.orphaned):
            if len(found) == limit:
                break
            session = self._sessions.live.get(key)
            if session is None or not session.unfinished or self._holder(session, now):
                del self._sessions.orphaned[key]
            else:
                found.append(key)
        return found

    # --- letters and watchers

    async def signal(self, key: SessionKey, signal: Signal) -> bool:
        """See `Sharing.signal`."""
        session = self._find(key)
        entry = session.turns.get(signal.turn_id) if session is not None else None
        if session is None or entry is None or entry.ended:
            return False
        if not session.open_mail().put(self._sessions.next_place(), signal):
            return False
        self._nudge_holder(session)
        return True

    async def inbox(self, lease: Lease, after: str) -> Inbox:
        """See `Sharing.inbox`."""
        session = self._held(lease)
        if not session.held:
            raise lease_lost(lease)
        now = self._clock()
        self._members.seen(lease.owner, now)
        mail = session.mail
        if mail is None:
            return Inbox([], {}, False)
        letters = mail.after(place_of(after or None))
        contents = (letter.content for letter in letters)
        arrived = (each.turn_id for each in contents if isinstance(each, TurnArrived))
        turns = {turn_id: session.turns[turn_id].turn for turn_id in arrived}
        return Inbox(letters, turns, bool(self._watchers(session, now)))

    async def watch(self, key: SessionKey, owner: str) -> Cursor | None:
        """See `Sharing.watch`."""
        session = self._find(key)
        if session is None:
            return None
        watched = self._watchers(session, self._clock())
        session.open_mail().watchers.add(owner)
        if not watched:
            self._nudge_holder(session)
        return session.log.end

    async def unwatch(self, key: SessionKey, owner: str) -> None:
        """See `Sharing.unwatch`."""
        session = self._sessions.live.get(key)
        if session is not None and session.mail is not None:
            session.mail.watchers.discard(owner)

    # --- steps

    def _meet(self, session: SessionRecord, owner: str, now: float) -> tuple[Lease | None, str]:
        """An owner ("": nobody) came to a session that has a holder, or is to have none.

        Its new lease if the holder is gone, and who holds the session then.
        """
        holder = self._holder(session, now)
        if holder or not owner:
            return None, holder
        return session.take_over(owner, now), owner

    def _pass_on(self, session: SessionRecord, turn: Turn, holder: str) -> None:
        """A turn is the holder's to run, or, if there is none, whoever's comes.

        It gets an object of its own, as who handed it in may still change that one.
        """
        session.turns[turn.id].turn = not_begun(turn)
        if holder:
            letter = TurnArrived(turn.id, session.accepted)
            session.open_mail().put(self._sessions.next_place(), letter)
            self._nudge_holder(session)
        else:
            self._offer(session)

    def _nudge_holder(self, session: SessionRecord) -> None:
        lease = session.lease
        if lease is not None and session.held:
            self._members.nudge(lease.owner, Nudge("inbox", session.key))

    def _tell_watchers(self, session: SessionRecord) -> bool:
        """Whether others than the holder watch; they are told that there is more."""
        watching = self._watchers(session, self._clock())
        for watcher in watching:
            self._members.nudge(watcher, Nudge("events", session.key))
        return bool(watching)

    def _watchers(self, session: SessionRecord, now: float) -> list[str]:
        """Who watches the session and lives, save its holder."""
        mail, lease = session.mail, session.lease
        if mail is None:
            return []
        holder = lease.owner if lease is not None else ""
        return [
            owner for owner in mail.watchers if owner != holder and self._members.alive(owner, now)
        ]

    def _bury(self, owners: set[str]) -> None:
        """Find what these owners held, and let them watch no more."""
        for session in self._sessions.live.values():
            if session.mail is not None:
                session.mail.watchers -= owners
            if session.unfinished and session.lease is not None and session.lease.owner in owners:
                self._sessions.orphaned[session.key] = None


def not_begun(turn: Turn) -> Turn:
    """The turn as one that waits, whatever was taken for granted; an object of its own."""
    return replace(turn, usage=copy(turn.usage), state="queued", attempt=0)
