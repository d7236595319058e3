"""What an audit log has yet to write: bounded, and what did not fit is counted. No I/O."""

from __future__ import annotations

from collections import deque
from itertools import islice

from pool.guard.audit_records import ITSELF, LOST, Happening
from pool.guard.audit_refusals import Refusals
from pool.turn import Principal


class Buffer:
    """What waits, in its order: `most` at a time, and a few that the log says of itself.

    Of those who were refused there is half of that at most, and not too many a second: the others
    are a number (see `Refusals`). Nobody who is refused again and again takes the room of others.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[Happening] = deque()
        self._refusals = Refusals()
        # that did not fit, and are not owned up to yet
        self.lost = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, happening: Happening) -> bool:
        """Keep it; False if there is no room: it is lost, and counted."""
        if len(self._waiting) >= self._most:
            self.lost += 1
            return False
        self._waiting.append(happening)
        return True

    def put_anyway(self, happening: Happening) -> None:
        """Keep what the log says of itself, however full it is."""
        self._waiting.append(happening)

    def put_refusal(self, happening: Happening) -> bool:
        """Keep it, or its number; whether there is something new to write."""
        room = len(self._waiting) < self._most / 2
        tenant = happening.principal.tenant
        own = self._refusals.take(happening.action, tenant, happening.at, room=room)
        return own and self.put(happening)

    def own_up(self, now: float) -> None:
        """Say what was lost, and how many were refused besides those who have a record."""
        if self.lost:
            self.put_anyway(Happening(now, LOST, "lost", ITSELF, reason=str(self.lost)))
            self.lost = 0
        self._join(now, now)

    def own_up_at_the_end(self, now: float) -> None:
        """The same, also of this second."""
        self.own_up(now)
        self._join(now, now + 1)

    def first(self, number: int) -> list[Happening]:
        """Those that are to be written next."""
        return list(islice(self._waiting, number))

    def drop(self, number: int) -> None:
        """So many are written."""
        for _ in range(number):
            self._waiting.popleft()

    def _join(self, now: float, until: float) -> None:
        for action, tenant, number in self._refusals.joined(until):
            who = Principal(tenant, "", ())
            self.put_anyway(Happening(now, action, "refused", who, reason=f"{number} others"))
