"""Usage on its way to the store: turns that end within a moment are counted in one call."""

from __future__ import annotations

from operator import add
from typing import Final
from uuid import uuid4

from pool.guard.periods import day_of
from pool.guard.usage import FIELDS, Entry, UsageBook, numbers_of, row_of
from pool.turn import Turn, Usage

# So many rows go into one call.
_ROWS: Final = 100
_UNUSED: Final = Usage()


class UsageBatch:
    """Adds up what ended turns used until it is written.

    What is not written when the process dies is in the turns' own records, not in the usage of the
    day.
    """

    def __init__(self, book: UsageBook) -> None:
        self._book = book
        # by tenant, user, agent, models and day, counted from the epoch
        self._sums: dict[tuple[str, str, str, tuple[str, ...], float], list[int]] = {}
        # what is being written, in parts that have names: the store may have taken one of which
        # its answer was lost
        self._parts: list[tuple[str, list[Entry]]] = []

    def __bool__(self) -> bool:
        return bool(self._sums or self._parts)

    def __repr__(self) -> str:
        return f"<UsageBatch {len(self._sums)} rows, {len(self._parts)} parts being written>"

    def add(self, turn: Turn, micro: int | None) -> None:
        """Take an ended turn, and what it cost in micro-USD (None: not known)."""
        usage = turn.usage
        ended_at = turn.finished_at or self._book.ended_at(turn)
        key = (turn.tenant, turn.user, turn.agent, usage.models, ended_at // 86_400.0)
        sums = self._sums.get(key)
        if sums is None:
            sums = self._sums[key] = [0] * len(FIELDS)
        if micro == 0 and usage == _UNUSED:
            # it adds nothing but itself, as every turn of an agent without a model
            sums[0] += 1
        else:
            sums[:] = map(add, sums, numbers_of(usage, micro))

    async def write(self) -> None:
        """Write what was taken so far; one at a time. `StoreUnavailable`: nothing is lost, call
        again.
        """
        entries = [
            Entry(day_of(86_400.0 * day), row_of(tenant, user, agent, models), sums)
            for (tenant, user, agent, models, day), sums in self._sums.items()
        ]
        self._sums = {}
        self._parts += [
            (uuid4().hex, entries[start : start + _ROWS]) for start in range(0, len(entries), _ROWS)
        ]
        while self._parts:
            await self._book.count(*self._parts[0])
            self._parts.pop(0)
