"""The order in which sessions that are in use come to rest."""

from __future__ import annotations

from heapq import heappop, heappush

from pool.store.base import SessionKey
from pool.store.memory_session import SessionRecord


class IdleLine:
    """When to look at each session in use. It is looked at when it can be due, not in rounds: what
    that costs does not grow with the number of sessions. Times are seconds since the epoch.
    """

    def __init__(self, rest_after_s: float) -> None:
        self._rest_after_s = rest_after_s
        # when to look, the session's number and key
        self._line: list[tuple[float, int, SessionKey]] = []

    def add(self, record: SessionRecord, idle_since: float) -> None:
        """A session that has been idle since then, for all that is known."""
        heappush(self._line, (idle_since + self._rest_after_s, record.number, record.key))

    def take(self, now: float, limit: int) -> list[tuple[SessionKey, int]]:
        """The keys and numbers of some that may have been idle for long enough, those idle longest
        first. Who is not is to be added again; who was dropped is still among them.
        """
        found: list[tuple[SessionKey, int]] = []
        while self._line and self._line[0][0] <= now and len(found) < limit:
            _, number, key = heappop(self._line)
            found.append((key, number))
        return found
