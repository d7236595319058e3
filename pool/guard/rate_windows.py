"""The windows that requests and tokens count in, and where their counts are kept: in a store, or
elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from pool.guard.naming import name_part
from pool.guard.rate_limits import RateLimit
from pool.store.counters import Change, Counters
from pool.turn import Principal


class Window(Struct, frozen=True):
    """One window of one subject under one limit: so much of `amount` may be counted in it. `key` is
    what the names of the subject's counters begin with, `counter` the name of its own; it `ends`,
    and is forgotten, at that time, in seconds since the epoch.
    """

    limit: RateLimit
    name: str
    amount: int
    key: str
    number: int
    counter: str
    ends: float

    def at(self, number: int) -> Window:
        """Another one of the same subject."""
        ends = float((number + 1) * self.limit.window_s)
        return replace(self, number=number, counter=f"{self.key}:{number}", ends=ends)

    def change(self, amount: int, limit: int | None = None) -> Change:
        """A change of its count."""
        return Change(self.counter, amount, self.ends, limit)

    def asking(self) -> Sequence[Change]:
        """What a request changes; forbidden if there is no room. For a turn that is to use tokens
        there is, if anything is left: one is counted and taken back in the same step.
        """
        one = self.change(1, self.amount)
        return (one,) if self.limit.what == "requests" else (one, self.change(-1))


class Asking(Struct, frozen=True):
    """All windows that a request counts in, `since` a time and until another; the `changes` that it
    makes, and where among them each window's last one is (None: each has one).
    """

    windows: Sequence[Window]
    since: float
    until: float
    changes: Sequence[Change]
    places: Sequence[int] | None


class Taken(Struct, frozen=True, gc=False):
    """What became of a request: the counts of its windows, and those of them that have no room
    (none: it was counted). `exact`: who counts only what fits has counts that never fall again.
    """

    counts: Sequence[int]
    over: Sequence[Window]
    exact: bool = True


class Windows(Protocol):
    """Where counts are kept."""

    async def take(self, asking: Asking) -> Taken:
        """Count a request in all its windows, or in none if one has no room. `StoreUnavailable`."""

    async def add(self, windows: Sequence[tuple[Window, int]]) -> Sequence[int]:
        """Add to the counts of windows; the counts then, in the same order. `StoreUnavailable`."""


class StoreWindows:
    """Counts in a store: all windows in one call, in whichever store there is."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    async def take(self, asking: Asking) -> Taken:
        """See `Windows.take`."""
        return taken_of(asking, *await self._counters.count(asking.changes))

    async def add(self, windows: Sequence[tuple[Window, int]]) -> Sequence[int]:
        """See `Windows.add`."""
        changes = [window.change(amount) for window, amount in windows]
        return (await self._counters.count(changes)).values


def taken_of(asking: Asking, values: Sequence[int], over: int | None) -> Taken:
    """What became of a request by what became of its changes."""
    places = asking.places
    counts = values if places is None else [values[place] for place in places]
    return Taken(counts, () if over is None else full_among(asking.windows, counts))


def asking_of(limits: Sequence[RateLimit], principal: Principal, now: float) -> Asking:
    """What a principal's requests count in now, under at least one limit."""
    windows = [_window(limit, principal, now) for limit in limits]
    changes: list[Change] = []
    places = []
    for window in windows:
        changes += window.asking()
        places.append(len(changes) - 1)
    until = min(window.ends for window in windows)
    alike = len(changes) == len(windows)
    return Asking(windows, now, until, changes, None if alike else places)


def full_among(windows: Sequence[Window], counts: Sequence[int]) -> Sequence[Window]:
    """Those that have no room for a request more."""
    return [window for window, count in zip(windows, counts, strict=True) if count >= window.amount]


def _window(limit: RateLimit, principal: Principal, now: float) -> Window:
    subject = limit.subject(principal)
    whose = ":".join(name_part(part) for part in subject.split("/", 1)) if subject else "all"
    amount = limit.of.get(subject, limit.amount)
    first = Window(limit, limit.name, amount, f"rate:{limit.name}:{whose}", 0, "", 0.0)
    return first.at(int(now // limit.window_s))
