"""Who used how much: by day, tenant, user, agent and model, in the store's counters.

Counters cannot be listed. So each combination that occurs on a day is a row, a small document of
the kind `usage-<day>`, and its numbers are counters that are named after it.

A turn that used several models does not say how much of which: its row names all, joined by `+`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from hashlib import sha256
from typing import Final, Literal, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from pool.errors import ConfigError, InvalidRequest
from pool.guard.periods import day_of, days, starts
from pool.store.cabinet import Cabinet, Document
from pool.store.counters import Change, Counters
from pool.turn import Turn, Usage

By = Literal["day", "tenant", "user", "agent", "model"]

# How many days one question may be about.
DAYS_MAX: Final = 366
# For how long it is known that a turn is counted: who lost the answer asks again before.
ONCE_S: Final = 600.0
_PAGE: Final = 1_000
_COUNT_MAX: Final = 10**12
# Names of counters asked for at once.
_NAMES: Final = 1_000
# How many rows are remembered as written down; then they are written again.
_WRITTEN_MAX: Final = 20_000


class UsageConfig(Struct, frozen=True, kw_only=True):
    """How long usage is kept, in days (at least 1)."""

    keep_days: int = 400

    def __post_init__(self) -> None:
        if not 1 <= self.keep_days <= 4_000:
            raise ConfigError("usage.keep_days", self.keep_days, "write a number from 1 to 4,000")


class Totals(Struct):
    """What turns used, added up. Money in micro-USD; `unpriced` turns are not in it."""

    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0
    tool_calls: int = 0
    cost_micro: int = 0
    unpriced: int = 0

    def add(self, numbers: Sequence[int]) -> None:
        """Add numbers, in the order of the fields."""
        for name, number in zip(FIELDS, numbers, strict=True):
            setattr(self, name, getattr(self, name) + number)


FIELDS: Final = Totals.__struct_fields__


class Row(Struct, frozen=True):
    """Whose usage is added up: one combination that occurred on a day."""

    tenant: str
    user: str
    agent: str
    model: str

    @property
    def id(self) -> str:
        """Its id among the rows of a day."""
        said = msgspec.json.encode((self.tenant, self.user, self.agent, self.model))
        return sha256(said).hexdigest()[:32]


class Entry(NamedTuple):
    """What is added to a row of a day, in the order of the fields."""

    day: date
    row: Row
    numbers: Sequence[int]


class Group(NamedTuple):
    """What the turns used that are alike in what was asked for: the values, in that order."""

    values: tuple[str, ...]
    totals: Totals


class _Store(Cabinet, Counters, Protocol):
    """What is needed of a store."""


class UsageBook:
    """Writes usage down, and adds it up. That a turn is counted is known for `once_s` seconds."""

    def __init__(
        self,
        store: _Store,
        *,
        wall: Callable[[], float],
        config: UsageConfig | None = None,
        once_s: float = ONCE_S,
    ) -> None:
        self._store = store
        self._wall = wall
        self._once_s = once_s
        self._config = config or UsageConfig()
        # the counters of rows whose documents were put, by day and row
        self._written: dict[tuple[date, Row], Sequence[str]] = {}

    def __repr__(self) -> str:
        return f"<UsageBook {len(self._written)} rows written>"

    def entry(self, turn: Turn, micro: int | None) -> Entry:
        """Where an ended turn counts, on the day of its end, and what it adds there; its cost in
        micro-USD (None: not known).
        """
        day = day_of(self._wall() if turn.finished_at is None else turn.finished_at)
        return Entry(day, row_of(turn), numbers_of(turn.usage, micro))

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
        names = self._written.get((day, row)) or await self._write(day, row)
        expires_at = starts(day) + (self._config.keep_days + 1) * 86_400.0
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
        """
        check_days(first, last)
        groups: dict[tuple[str, ...], Totals] = {}
        for day in days(first, last):
            rows = [
                row
                for row in await self._rows(day)
                if tenant in (None, row.tenant)
                if user in (None, row.user)
                if agent in (None, row.agent)
            ]
            for row, numbers in zip(rows, await self._numbers(day, rows), strict=True):
                values = tuple(
                    day.isoformat() if each == "day" else getattr(row, each) for each in by
                )
                groups.setdefault(values, Totals()).add(numbers)
        return [Group(values, groups[values]) for values in sorted(groups)]

    async def forget(self) -> int:
        """Forget the rows of the ten days before those that are kept. How many they were. (The
        numbers go by themselves.) To be called about once a day.
        """
        kept_from = day_of(self._wall()) - timedelta(days=self._config.keep_days)
        forgotten = 0
        for day in days(kept_from - timedelta(days=10), kept_from - timedelta(days=1)):
            for row in await self._rows(day):
                forgotten += await self._store.remove(_kind(day), row.id)
        return forgotten

    async def _write(self, day: date, row: Row) -> Sequence[str]:
        # before it is counted: numbers without a row would never be found
        await self._store.put(_kind(day), [Document(row.id, msgspec.msgpack.encode(row))])
        if len(self._written) >= _WRITTEN_MAX:
            self._written.clear()
        names = self._written[day, row] = _names(day, row)
        return names

    async def _rows(self, day: date) -> list[Row]:
        rows: list[Row] = []
        after: str | None = None
        while True:
            documents, after = await self._store.documents(_kind(day), after, _PAGE)
            rows += [msgspec.msgpack.decode(each.data, type=Row) for each in documents]
            if after is None:
                return rows

    async def _numbers(self, day: date, rows: Sequence[Row]) -> list[Sequence[int]]:
        names = [name for row in rows for name in _names(day, row)]
        numbers: list[int] = []
        for start in range(0, len(names), _NAMES):
            numbers += await self._store.counts(names[start : start + _NAMES])
        width = len(FIELDS)
        return [numbers[start : start + width] for start in range(0, len(numbers), width)]


def row_of(turn: Turn) -> Row:
    """The row that a turn counts in."""
    return Row(turn.tenant, turn.user, turn.agent, "+".join(sorted(turn.usage.models)))


def numbers_of(usage: Usage, micro: int | None) -> tuple[int, ...]:
    """What one turn adds, in the order of `FIELDS`."""
    used = (usage.input_tokens, usage.output_tokens, usage.requests, usage.tool_calls)
    return (1, *map(count_of, used), micro or 0, int(micro is None))


def count_of(number: int) -> int:
    """A number that an agent reported, as it may be counted: no less than nothing, and no more than
    a turn can have used.
    """
    return min(max(0, number), _COUNT_MAX)


def total_of(turns: Iterable[tuple[Usage, int | None]]) -> Totals:
    """What some turns used together, each with its cost in micro-USD: those of a session, say."""
    totals = Totals()
    for usage, micro in turns:
        totals.add(numbers_of(usage, micro))
    return totals


def check_days(first: date, last: date) -> None:
    """`InvalidRequest` if these are no days to ask about."""
    if last < first:
        raise InvalidRequest("the last day is before the first", field="until")
    if (last - first).days >= DAYS_MAX:
        raise InvalidRequest(f"ask about at most {DAYS_MAX} days at once", field="since")


def _values(day: date, row: Row, by: Sequence[By]) -> tuple[str, ...]:
    return tuple(day.isoformat() if each == "day" else getattr(row, each) for each in by)


def _kind(day: date) -> str:
    return f"usage-{day.isoformat()}"


def _names(day: date, row: Row) -> list[str]:
    key = f"usage:{day.isoformat()}:{row.id}"
    return [f"{key}:{field}" for field in FIELDS]
