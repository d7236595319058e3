"""The counters of a memory store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pool.errors import StoreUnavailable
from pool.store.counters import Change, Counted
from pool.store.counting import changed, check_number, value_of

# How many counters there may be.
COUNTERS_MAX: Final = 500_000
# How many old ones are looked at for each new one: more than one, so that they become fewer; and
# how many if there is no room.
_LOOKS: Final = 2
_LOOKS_FULL: Final = 1_000


class Counts:
    """All counters, up to so many. Those that have expired are dropped as new ones come."""

    def __init__(self, max_counters: int = COUNTERS_MAX) -> None:
        self._max = max_counters
        # as `Kept`s are; who was looked at last is at the end
        self._kept: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Counts {len(self)} counters>"

    def __len__(self) -> int:
        return len(self._kept)

    def change(self, changes: Sequence[Change], now: float) -> Counted:
        """Make all of them or none; `StoreUnavailable` if there is no room for new ones."""
        kept = self._kept
        check_number(changes)
        counted, after = changed(changes, kept, now)
        before = len(kept)
        if before + len(after) > self._max:
            self._make_room(after, now)
        for name, each in after.items():
            if each[1] > now:
                kept[name] = each
            else:
                kept.pop(name, None)
        if len(kept) > before:
            self._drop_expired(_LOOKS * (len(kept) - before), now)
        return counted

    def value(self, name: str, now: float) -> int:
        """What a counter says."""
        return value_of(self._kept.get(name), now)

    def _make_room(self, after: Mapping[str, tuple[int, float]], now: float) -> None:
        if len(self._kept) + self._new(after) > self._max:
            self._drop_expired(_LOOKS_FULL, now)
        if len(self._kept) + self._new(after) > self._max:
            raise StoreUnavailable(
                f"the memory store has {self._max} counters (budgets, usage), as many as it may: "
                "wait until some are forgotten, or use a store with a disk"
            )

    def _new(self, after: Mapping[str, tuple[int, float]]) -> int:
        return sum(name not in self._kept for name in after)

    def _drop_expired(self, looks: int, now: float) -> None:
        for _ in range(min(looks, len(self._kept))):
            name, kept = self._kept.popitem(last=False)
            if kept[1] > now:
                self._kept[name] = kept


class MemoryCounters:
    """The part of a memory store that counts."""

    _counts: Counts
    _clock: Callable[[], float]

    async def count(self, changes: Sequence[Change]) -> Counted:
        """See `Counters.count`. `StoreUnavailable` if there is no room for new ones."""
        return self._counts.change(changes, self._clock())

    async def counts(self, names: Sequence[str]) -> Sequence[int]:
        """See `Counters.counts`."""
        now = self._clock()
        return [self._counts.value(name, now) for name in names]
