"""Who was refused, in an audit log that whoever is refused cannot fill: a bounded number of records
a second, the others as a number. No I/O.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

# So many refusals of a kind and a tenant in a second are records of their own.
PER_S: Final = 100


class Joined(NamedTuple):
    """So many refusals besides those that have a record; the tenant is "" for strangers."""

    action: str
    tenant: str
    number: int


class Refusals:
    """Counts refusals by what was refused and to whom."""

    def __init__(self) -> None:
        self._second = 0
        self._counted: Counter[tuple[str, str]] = Counter()
        # those without a record: of this second, and of the seconds before
        self._joined: Counter[tuple[str, str]] = Counter()
        self._over: Counter[tuple[str, str]] = Counter()

    def take(self, action: str, tenant: str, now: float, *, room: bool) -> bool:
        """One more, at `now` (seconds since the epoch): whether it is to be a record of its own.
        Without `room` none is.
        """
        self._begin(int(now))
        who = (action, tenant)
        self._counted[who] += 1
        if room and self._counted[who] <= PER_S:
            return True
        self._joined[who] += 1
        return False

    def joined(self, now: float) -> list[Joined]:
        """The others, once: those of this second not before it is over."""
        self._begin(int(now))
        joined = [Joined(*who, number) for who, number in self._over.items()]
        self._over.clear()
        return joined

    def _begin(self, second: int) -> None:
        if second != self._second:
            self._second = second
            self._over += self._joined
            self._counted.clear()
            self._joined.clear()
