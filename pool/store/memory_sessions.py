"""All sessions of a memory store, in use and at rest, and what keeps them within bounds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import Final

from pool.errors import StoreUnavailable
from pool.ids import check_id
from pool.store.base import Page, SessionKey
from pool.store.listing import Listing, place_of
from pool.store.memory_deliveries import Deliveries
from pool.store.memory_idle import IdleLine
from pool.store.memory_limits import MemoryLimits
from pool.store.memory_session import SessionRecord
from pool.store.rest import Packer, Unpackable
from pool.turn import SessionInfo

# About how many bytes these take, besides what is said in them.
SESSION_BYTES: Final = 1_600
TURN_BYTES: Final = 900
EVENT_BYTES: Final = 160
RESTING_BYTES: Final = 200
# a turn's place in the index
TURN_ID_BYTES: Final = 130
# How many sessions are dropped together. The oldest of a dict is found in time that grows with what
# was dropped before it, so that dropping them one by one would cost more.
DROP_TOGETHER: Final = 32
DROP_ROUNDS: Final = 8


# both ids at once, as this is asked for each new session
_is_name = re.compile(r"[A-Za-z0-9_-]{1,64}/[A-Za-z0-9_-]{1,64}\Z").match


class Sessions:
    """Finds, makes, rests, wakes and drops sessions. `now` is in seconds since the epoch."""

    def __init__(self, limits: MemoryLimits) -> None:
        self.limits = limits
        self.live: dict[SessionKey, SessionRecord] = {}
        # by name, in the order in which they came to rest: those idle longest first
        self.resting: dict[str, bytes] = {}
        self.idle = IdleLine(limits.rest_after_s)
        # the name of each turn's session
        self.index: dict[str, str] = {}
        self.dead_letters: dict[str, None] = {}
        self.deliveries = Deliveries()
        # those with unfinished turns that may have no holder; who looks at them checks
        self.orphaned: dict[SessionKey, None] = {}
        # about how many bytes all take
        self.size = 0
        self.packer = Packer(limits)
        self.listings: dict[str, Listing] = {}
        self._number = 0
        self._version = 0
        self._place = 0

    def __len__(self) -> int:
        return len(self.live) + len(self.resting)

    def __repr__(self) -> str:
        return (
            f"<Sessions [{len(self.live)} in use, {len(self.resting)} at rest, {self.size} bytes]>"
        )

    # --- finding and making

    def find(self, key: SessionKey, now: float) -> SessionRecord | None:
        """The session, in use from now on; None if there is none or it has expired."""
        record = self.live.get(key)
        if record is None:
            name = f"{key[0]}/{key[1]}"
            if name not in self.resting:
                return None
            record = self.wake(name)
        if record.expires_at <= now:
            self.forget(record)
            return None
        return record

    def find_turn(self, turn_id: str, now: float) -> SessionRecord | None:
        """The session that has this turn."""
        name = self.index.get(turn_id)
        return None if name is None else self.find(key_of(name), now)

    def make(self, key: SessionKey, now: float, keep: SessionRecord | None = None) -> SessionRecord:
        """A new session; `InvalidRequest` if it cannot be called so, `StoreUnavailable` if there is
        no room. `keep` is not dropped for it.
        """
        tenant, session_id = key
        name = f"{tenant}/{session_id}"
        if _is_name(name) is None:
            check_id(tenant, "tenant")
            check_id(session_id, "session_id")
        limits = self.limits
        if (
            self.size > limits.max_bytes
            or len(self.live) + len(self.resting) >= limits.max_sessions
        ):
            self.make_room(1, keep)
        self._number = number = self._number + 1
        listing = self.listings.get(tenant)
        if listing is None:
            listing = self.listings[tenant] = Listing()
        listing.add(number, name)
        record = SessionRecord(
            key, name, number, now, now, now + limits.session_ttl_s, size=SESSION_BYTES
        )
        self.live[key] = record
        self.idle.add(record, now)
        self.size += SESSION_BYTES
        return record

    def next_version(self) -> int:
        """A version of an agent's state that there never was."""
        self._version += 1
        return self._version

    def next_place(self) -> int:
        """A place in an inbox, behind all that there are."""
        self._place += 1
        return self._place

    def bound(self, record: SessionRecord) -> None:
        """Drop what a session has too much of: old turns, the oldest of its transcript."""
        record.transcript.trim(self.limits.max_entries_per_session)
        surplus = len(record.turns) - self.limits.max_turns_per_session
        # an eighth at a time: dropping looks at the whole session
        if surplus <= self.limits.max_turns_per_session // 8:
            return
        events = len(record.log.events)
        gone = record.drop_turns(surplus)
        events -= len(record.log.events)
        self.grow(record, -TURN_BYTES * len(gone) - EVENT_BYTES * events)
        self.forget_turns(gone)

    def grow(self, record: SessionRecord, size: int) -> None:
        """A session takes about so many bytes more."""
        record.size += size
        self.size += size

    def forget(self, record: SessionRecord) -> None:
        """Drop a session that is in use, with all that leads to it."""
        del self.live[record.key]
        self.size -= record.size
        self.forget_turns(record.turns)
        listing = self.listings[record.key[0]]
        listing.drop(record.number)
        if not listing:
            del self.listings[record.key[0]]

    def forget_turns(self, turn_ids: Iterable[str]) -> None:
        """Turns that can no longer be found."""
        for turn_id in turn_ids:
            del self.index[turn_id]
            self.dead_letters.pop(turn_id, None)
            if self.deliveries:
                self.deliveries.settle(turn_id)

    def dead_letters_of(self, tenant: str | None, limit: int) -> list[str]:
        """The newest turns that ended as dead letters (of one tenant), newest first."""
        found = (
            turn_id
            for turn_id in reversed(self.dead_letters)
            if tenant is None or key_of(self.index[turn_id]).tenant == tenant
        )
        return list(islice(found, limit))

    # --- what callers see

    def info(self, key: SessionKey, now: float) -> SessionInfo | None:
        """The session as callers see it; one at rest stays so."""
        record = self.live.get(key)
        if record is not None:
            return record.info if record.expires_at > now else None
        packed = self.resting.get(f"{key[0]}/{key[1]}")
        if packed is None or self.packer.label(packed).expires_at <= now:
            return None
        return self.packer.info(packed, key[1])

    def page(self, tenant: str, after: str | None, limit: int, now: float) -> Page[SessionInfo]:
        """A tenant's sessions, in the order of their making."""
        number = place_of(after)
        listing = self.listings.get(tenant, Listing())
        found: list[tuple[int, SessionInfo]] = []
        while len(found) <= limit and (listed := listing.after(number, limit + 1)):
            number = listed[-1][0]
            for each, name in listed:
                info = self.info(key_of(name), now)
                if info is not None:
                    found.append((each, info))
        more = len(found) > limit
        return Page([info for _, info in found[:limit]], str(found[limit - 1][0]) if more else None)

    # --- bounds

    def full(self, more: int) -> bool:
        """Whether something must go before so many more sessions are made."""
        return self.size > self.limits.max_bytes or (
            more > 0 and len(self.live) + len(self.resting) + more > self.limits.max_sessions
        )

    def make_room(self, more: int, keep: SessionRecord | None = None) -> None:
        """Drop those idle longest; `StoreUnavailable` if none can be dropped. `keep` stays.

        Drops a bounded number, so that no call takes long.
        """
        for _ in range(DROP_ROUNDS):
            if not self._drop_oldest(keep):
                raise StoreUnavailable(
                    f"the memory store is full ({len(self)} sessions, about {self.size} bytes) and "
                    f"no session is idle; raise max_sessions ({self.limits.max_sessions}) or "
                    f"max_bytes ({self.limits.max_bytes}), or use a store on disk",
                    retry_after_s=1.0,
                )
            if not self.full(more):
                return

    def _drop_oldest(self, keep: SessionRecord | None) -> bool:
        count = min(DROP_TOGETHER, 1 + len(self.resting) // 8)
        names = list(islice(self.resting, count))
        for name in names:
            self.forget(self.wake(name))
        if names:
            return True
        # what is idle comes to rest soon: it is enough to look at the first of those in use
        for record in islice(self.live.values(), 1_000):
            if record is not keep and not record.unfinished:
                self.forget(record)
                return True
        return False

    # --- rest

    def rest(self, record: SessionRecord) -> bool:
        """Pack an idle session; False if it cannot be packed."""
        oldest = record.updated_at - self.limits.events_ttl_s
        if record.created_at < oldest:
            record.drop_events(oldest)
        try:
            packed = self.packer.pack(record)
        except Unpackable:
            # it stays as it is until it expires or is dropped
            return False
        del self.live[record.key]
        self.resting[record.name] = packed
        self.size += _resting_size(packed, record) - record.size
        return True

    def repack(self, name: str, events_before: float) -> None:
        """Drop old events of a session at rest, in its place: it has not been used."""
        before = self.resting[name]
        record = self.packer.unpack(before, key_of(name), name)
        record.drop_events(events_before)
        after = self.resting[name] = self.packer.pack(record)
        self.size += len(after) - len(before)

    def wake(self, name: str) -> SessionRecord:
        """Unpack a session at rest: it is in use from now on."""
        packed = self.resting.pop(name)
        record = self.packer.unpack(packed, key_of(name), name)
        record.size = SESSION_BYTES + 2 * len(packed) + TURN_BYTES * len(record.turns)
        record.size += EVENT_BYTES * len(record.log.events)
        self.live[record.key] = record
        self.idle.add(record, record.updated_at)
        self.size += record.size - _resting_size(packed, record)
        return record


def key_of(name: str) -> SessionKey:
    """The key of a session that is called `<tenant>/<id>`."""
    tenant, _, session_id = name.rpartition("/")
    return SessionKey(tenant, session_id)


def _resting_size(packed: bytes, record: SessionRecord) -> int:
    return RESTING_BYTES + len(packed) + TURN_ID_BYTES * len(record.turns)
