"""Who used how much: by day, tenant, user, agent and model, in the store's counters.

Counters cannot be listed. So each combination that occurs on a day is a row, a small document of
the kind `usage-<day>`, and its numbers are counters that are named after it.

A turn that used several models does not say how much of which: its row names all, joined by `+`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from datetime import date, timedelta
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import Struct

from pool.errors import ConfigError, InvalidRequest
from pool.guard.periods import day_of, days, starts
from pool.guard.usage_rows import FIELDS as FIELDS
from pool.guard.usage_rows import (
    ROWS_IN_MEMORY,
    ROWS_MAX,
    Rows,
    RowStore,
    kind_of,
    names_of,
    place_of,
)
from pool.guard.usage_rows import Row as Row
from pool.guard.usage_rows import Totals as Totals
from pool.store.counters import Change
from pool.turn import Turn, Usage

By = Literal["day", "tenant", "user", "agent", "model"]

# How many days one question may be about, and of how many lines its answer.
DAYS_MAX: Final = 366
GROUPS_MAX: Final = 10_000
# For how long it is known that something is counted: who lost the answer asks again before.
ONCE_S: Final = 86_400.0
_PAGE: Final = 1_000
# A store in memory keeps so many days.
DAYS_IN_MEMORY: Final = 31
_COUNT_MAX: Final = 10**12
# Names of counters asked for at once.
_NAMES: Final = 1_000


class UsageConfig(Struct, frozen=True, kw_only=True):
    """How long usage is kept, in days (at least 1)."""

    keep_days: int = 400

    def __post_init__(self) -> None:
        if not 1 <= self.keep_days <= 4_000:
            raise ConfigError("keep_days", self.keep_days, "write a number from 1 to 4,000")


class Entry(NamedTuple):
    """What is added to a row of a day, in the order of the fields."""

    day: date
    row: Row
    numbers: Sequence[int]


class Group(NamedTuple):
    """What the turns used that are alike in what was asked for: the values, in that order."""

    values: tuple[str, ...]
    totals: Totals


class UsageBook:
    """Writes usage down, and adds it up. That something is counted is known for `once_s` seconds.

    In a store that is not durable there are fewer rows, for fewer days.
    """

    def __init__(
        self,
        store: RowStore,
        *,
        wall: Callable[[], float],
        config: UsageConfig | None = None,
        once_s: float = ONCE_S,
    ) -> None:
        self._store = store
        self._wall = wall
        self._once_s = once_s
        keep_days = (config or UsageConfig()).keep_days
        self._keep_days = keep_days if store.durable else min(keep_days, DAYS_IN_MEMORY)
        self._rows = Rows(store, ROWS_MAX if store.durable else ROWS_IN_MEMORY)

    def __repr__(self) -> str:
        return f"<UsageBook {self._rows!r}>"

    def today(self) -> date:
        """The day that turns which end now count on."""
        return day_of(self._wall())

    def entry(self, turn: Turn, micro: int | None) -> Entry:
        """Where an ended turn counts, on the day of its end, and what it adds there; its cost in
        micro-USD (None: not known).
        """
        row = row_of(turn.tenant, turn.user, turn.agent, turn.usage.models)
        return Entry(day_of(self.ended_at(turn)), row, numbers_of(turn.usage, micro))

    def ended_at(self, turn: Turn) -> float:
        """When a turn has ended: now, if its record does not say."""
        return self._wall() if turn.finished_at is None else turn.finished_at

    async def count(self, name: str, entries: Iterable[Entry]) -> bool:
        """Count all of these; once for each name, however often this is called within `once_s`:
        whether they were counted now. `StoreUnavailable`: call again.
        """
        # forbidden the second time, and everything with it
        once = Change(f"usage-once:{name}", 1, self._wall() + self._once_s, 1)
        changes = [change for entry in entries for change in await self.changes(entry)]
        return (await self._store.count([once, *changes])).over is None

    async def changes(self, entry: Entry) -> list[Change]:
        """What is to be counted, for who counts it once together with more."""
        day, row, numbers = entry
        names = await self._rows.names(day, row)
        expires_at = starts(day) + (self._keep_days + 1) * 86_400.0
        return [
            Change(name, number, expires_at)
            for name, number in zip(names, numbers, strict=True)
            if number
        ]

    async def query(
        self,
        first: date,
        last: date,
        by: Sequence[By],
        *,
        tenant: str | None = None,
        user: str | None = None,
        agent: str | None = None,
    ) -> list[Group]:
        """What was used from a day to another, both included, by these properties (none: all
        together), in their order. Only of one tenant, user or agent, if that is said.
        `InvalidRequest` for too many days, or more lines than `GROUPS_MAX`.
        """
        check_days(first, last)
        groups: dict[tuple[str, ...], Totals] = {}
        for day in days(first, last):
            async with aclosing(self._pages(day, tenant)) as pages:
                async for page in pages:
                    rows = [
                        row
                        for row in page
                        if tenant in (None, row.tenant)
                        if user in (None, row.user)
                        if agent in (None, row.agent)
                    ]
                    for row, numbers in zip(rows, await self._numbers(day, rows), strict=True):
                        groups.setdefault(_values(day, row, by), Totals()).add(numbers)
                    _check_groups(len(groups))
        return [Group(values, groups[values]) for values in sorted(groups)]

    async def forget(self) -> int:
        """Forget the rows of the ten days before those that are kept. How many they were. (The
        numbers go by themselves.) To be called about once a day.
        """
        kept_from = day_of(self._wall()) - timedelta(days=self._keep_days)
        forgotten = 0
        for day in days(kept_from - timedelta(days=10), kept_from - timedelta(days=1)):
            async with aclosing(self._pages(day, None)) as pages:
                async for rows in pages:
                    for row in rows:
                        forgotten += await self._store.remove(kind_of(day), row.id)
        return forgotten

    async def _pages(self, day: date, tenant: str | None) -> AsyncGenerator[list[Row], None]:
        """The rows of a day, in parts; those of a tenant, and perhaps a few others."""
        place = "" if tenant is None else place_of(tenant)
        after: str | None = place or None
        while True:
            documents, after = await self._store.documents(kind_of(day), after, _PAGE)
            yield [
                msgspec.msgpack.decode(each.data, type=Row)
                for each in documents
                if each.id.startswith(place)
            ]
            if after is None or not after.startswith(place):
                return
            # a store in memory never waits: others get their turn
            await asyncio.sleep(0)

    async def _numbers(self, day: date, rows: Sequence[Row]) -> list[Sequence[int]]:
        names = [name for row in rows for name in names_of(day, row)]
        numbers: list[int] = []
        for start in range(0, len(names), _NAMES):
            numbers += await self._store.counts(names[start : start + _NAMES])
        width = len(FIELDS)
        return [numbers[start : start + width] for start in range(0, len(numbers), width)]


def row_of(tenant: str, user: str, agent: str, models: Iterable[str]) -> Row:
    """The row that turns count in."""
    return Row(tenant, user, agent, "+".join(sorted(models)))


def numbers_of(usage: Usage, micro: int | None) -> tuple[int, ...]:
    """What one turn adds, in the order of `FIELDS`."""
    return (
        1,
        count_of(usage.input_tokens),
        count_of(usage.output_tokens),
        count_of(usage.requests),
        count_of(usage.tool_calls),
        micro or 0,
        int(micro is None),
    )


def count_of(number: int) -> int:
    """A number that an agent reported, as it may be counted: no less than nothing, and no more than
    a turn can have used.
    """
    return number if 0 <= number <= _COUNT_MAX else min(max(0, number), _COUNT_MAX)


def check_days(first: date, last: date) -> None:
    """`InvalidRequest` if these are no days to ask about."""
    if last < first:
        raise InvalidRequest("the last day is before the first", field="to")
    if (last - first).days >= DAYS_MAX:
        raise InvalidRequest(f"ask about at most {DAYS_MAX} days at once", field="from")


def _values(day: date, row: Row, by: Sequence[By]) -> tuple[str, ...]:
    return tuple(day.isoformat() if each == "day" else getattr(row, each) for each in by)


def _check_groups(number: int) -> None:
    if number > GROUPS_MAX:
        raise InvalidRequest(
            f"the answer would have more than {GROUPS_MAX} lines: ask about fewer days, or by less",
            field="by",
        )
