"""The rows that usage is counted in: a bounded number a day, each with its counters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from hashlib import sha256
from typing import Final, Protocol

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from pool.store.cabinet import Cabinet, Document
from pool.store.counters import Counters

# How many rows one process begins on a day; then users are counted without their names.
ROWS_MAX: Final = 10_000
# The same in a store that has all counters in memory.
ROWS_IN_MEMORY: Final = 1_000
# How many days' rows are remembered as written down: turns end on one of two.
_DAYS: Final = 2

_log = structlog.get_logger("pool.guard.usage")


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
        """Its id among the rows of a day; those of a tenant are next to each other."""
        said = msgspec.json.encode((self.tenant, self.user, self.agent, self.model))
        return place_of(self.tenant) + sha256(said).hexdigest()[:24]


class RowStore(Cabinet, Counters, Protocol):
    """What is needed of a store."""

    @property
    def durable(self) -> bool:
        """Whether it outlives the process."""


class Rows:
    """Writes rows down before anything is counted in them; `most`: so many a day, and as many
    again that name no user. Beyond that they are not remembered, and written each time.
    """

    def __init__(self, store: RowStore, most: int = ROWS_MAX) -> None:
        self._store = store
        self._most = most
        # the day that has too many users
        self._full: date | None = None
        # the counters of rows whose documents were put, by day
        self._written: dict[date, dict[Row, Sequence[str]]] = {}

    def __repr__(self) -> str:
        return f"{sum(map(len, self._written.values()))} rows written"

    async def names(self, day: date, row: Row) -> Sequence[str]:
        """The counters of a row, or of the one that it is counted in if there are too many."""
        if day not in self._written:
            for old in sorted(self._written)[: 1 - _DAYS]:
                del self._written[old]
        rows = self._written.setdefault(day, {})
        names = rows.get(row)
        if names is not None:
            return names
        if len(rows) >= self._most and row.user:
            self._tell_full(day, rows)
            return await self.names(day, replace(row, user=""))
        # before it is counted: numbers without a row would never be found
        await self._store.put(kind_of(day), [Document(row.id, msgspec.msgpack.encode(row))])
        names = names_of(day, row)
        if len(rows) < 2 * self._most:
            rows[row] = names
        return names

    def _tell_full(self, day: date, rows: Mapping[Row, Sequence[str]]) -> None:
        if day == self._full:
            return
        self._full = day
        _log.warning(
            "so many users have turns that others are counted in usage without their names",
            day=day.isoformat(),
            rows=len(rows),
            remedy="the records of turns have them; a store with a disk keeps more rows",
        )


def place_of(tenant: str) -> str:
    """What the ids of a tenant's rows begin with."""
    return sha256(tenant.encode()).hexdigest()[:8]


def kind_of(day: date) -> str:
    """The kind of document that the rows of a day are."""
    return f"usage-{day.isoformat()}"


def names_of(day: date, row: Row) -> list[str]:
    """The counters of a row, in the order of `FIELDS`."""
    key = f"usage:{day.isoformat()}:{row.id}"
    return [f"{key}:{field}" for field in FIELDS]
