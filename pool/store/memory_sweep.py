"""How a memory store brings idle sessions to rest and drops what is too old."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from math import inf
from typing import Final

from pool.store.memory_session import SessionRecord
from pool.store.memory_sessions import EVENT_BYTES, Sessions, key_of

# Seconds from the beginning of a round of all sessions to that of the next, by which what is too
# old stays longer. There are at least so many rounds in the shortest time that something is kept.
ROUND_S: Final = 60.0
_ROUNDS: Final = 10


class Sweep:
    """Looks at sessions, some at a time. Times are seconds since the epoch."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._limits = sessions.limits
        shortest_s = min(sessions.limits.events_ttl_s, sessions.limits.session_ttl_s)
        self._round_s = min(ROUND_S, shortest_s / _ROUNDS)
        # where the round is, and when it began
        self._round: Iterator[str] = iter(())
        self._began = -inf

    def run(self, now: float, budget: int) -> int:
        """Look at `budget` sessions in use that may have been idle for long enough, to rest them,
        and at `budget` of all, to age them.

        Returns how many were brought to rest.
        """
        self._age(now, budget)
        return self._rest(now, budget)

    def _rest(self, now: float, budget: int) -> int:
        sessions, rested = self._sessions, 0
        for key, number in sessions.idle.take(now, budget):
            record = sessions.live.get(key)
            if record is None or record.number != number:
                continue
            if record.unfinished or (record.mail is not None and record.mail.watchers):
                sessions.idle.add(record, now)
            elif record.updated_at + self._limits.rest_after_s > now:
                sessions.idle.add(record, record.updated_at)
            else:
                rested += sessions.rest(record)
        return rested

    def _age(self, now: float, budget: int) -> None:
        for name in self._next(now, budget):
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

    def _next(self, now: float, count: int) -> list[str]:
        names = list(islice(self._round, count))
        # the clock may have been put back
        if not names and not 0.0 <= now - self._began < self._round_s:
            self._began = now
            self._round = self._walk()
            names = list(islice(self._round, count))
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
