"""The counters of a Redis store. All of them are in one partition, so that one step changes any."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from math import ceil
from typing import Final

from pool.ids import PARTITIONS
from pool.store.counters import Change, Counted, is_counter
from pool.store.counting import check_number, out_of_range
from pool.store.redis_part import RedisPart
from pool.store.redis_scripts import Word

# Which partition: some one.
_HOME: Final = PARTITIONS // 2


class RedisCounters(RedisPart):
    """The part of a Redis store that counts. Redis forgets by itself what has expired."""

    async def count(self, changes: Sequence[Change]) -> Counted:
        """See `Counters.count`."""
        check_number(changes)
        if not changes:
            return Counted([], None)
        keys = [self._key(change.name) for change in changes]
        words = list(chain.from_iterable(map(_words, changes)))
        place, *values = await self._scripts.run(_HOME, "count", keys, words)
        if not values:
            raise out_of_range(changes[place].name)
        return Counted([int(value) for value in values], None if place < 0 else place)

    async def counts(self, names: Sequence[str]) -> Sequence[int]:
        """See `Counters.counts`."""
        known = [name for name in dict.fromkeys(names) if is_counter(name)]
        found = await self._scripts.command_all(
            [(_HOME, ("GET", self._key(name))) for name in known]
        )
        values = dict(zip(known, found, strict=True))
        return [int(values.get(name) or 0) for name in names]

    def _key(self, name: str) -> str:
        return self._keys.of_partition(_HOME, f"count:{name}")


def _words(change: Change) -> tuple[Word, Word, Word]:
    limit = "" if change.limit is None else change.limit
    return change.amount, ceil(change.expires_at * 1000), limit
