"""The rounds in which a memory store brings idle sessions to rest and drops what is too old."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from pool.store.base import SessionKey
from pool.store.memory_session import SessionRecord
from pool.store.memory_sessions import EVENT_BYTES, Sessions, key_of


class Sweep:
    """Goes round all sessions, some at a time. Times are seconds since the epoch."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._limits = sessions.limits
        # where the rounds are
        self._in_use: Iterator[SessionKey] = iter(())
        self._all: Iterator[str] = iter(())

    def run(self, now: float, budget: int) -> int:
        """Look at `budget` sessions in use, to rest them, and `budget` of all, to age them.

        Returns how many were brought to rest.
        """
        self._age(now, budget)
        return self._rest(now, budget)

    def _rest(self, now: float, budget: int) -> int:
        idle_since = now - self._limits.rest_after_s
        rested = 0
        for key in self._next_in_use(budget):
            record = self._sessions.live.get(key)
            if record is None or record.unfinished or record.restless:
                continue
            if record.mail is not None and record.mail.watchers:
                continue
            if record.updated_at <= idle_since:
                rested += self._sessions.rest(record)
        return rested

    def _age(self, now: float, budget: int) -> None:
        for name in self._next_of_all(budget):
            packed = self._sessions.resting.get(name)
            if packed is not None:
                self._age_resting(name, packed, now)
            elif (record := self._sessions.live.get(key_of(name))) is not None:
                self._age_in_use(record, now)

    def _age_resting(self, name: str, packed: bytes, now: float) -> None:
        label = self._sessions.packer.label(packed)
        if label.expires_at <= now:
            self._sessions.forget(self._sessions.wake(name))
        elif label.events_until <= now:
            self._sessions.repack(name, now - self._limits.events_ttl_s)

    def _age_in_use(self, record: SessionRecord, now: float) -> None:
        oldest = now - self._limits.events_ttl_s
        if record.expires_at <= now:
            self._sessions.forget(record)
        elif record.created_at < oldest:
            self._sessions.grow(record, -EVENT_BYTES * record.drop_events(oldest))

    def _next_in_use(self, count: int) -> list[SessionKey]:
        keys = list(islice(self._in_use, count))
        if not keys:
            self._in_use = iter(list(self._sessions.live))
            keys = list(islice(self._in_use, count))
        return keys

    def _next_of_all(self, count: int) -> list[str]:
        names = list(islice(self._all, count))
        if not names:
            self._all = self._walk()
            names = list(islice(self._all, count))
        return names

    def _walk(self) -> Iterator[str]:
        """The names of all sessions, while they come and go."""
        listings = self._sessions.listings
        for tenant in list(listings):
            number = 0
            while (listing := listings.get(tenant)) and (listed := listing.after(number, 100)):
                number = listed[-1][0]
                for _, name in listed:
                    yield name
