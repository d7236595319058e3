"""What a measurement found, what was asked of it, and how both are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Generic, Literal, TypeVar

from msgspec import Struct

T = TypeVar("T")


class Target(Struct, frozen=True):
    """A bound on the ratio to the bare side, or on the pool's own value."""

    bound: float
    side: Literal["at least", "at most"]
    of: Literal["ratio", "value"] = "ratio"


class Row(Struct, frozen=True, kw_only=True):
    """One line of the table: the pool's value, the bare limit's (if there is one), the target."""

    what: str
    unit: str
    pool: float
    bare: float | None = None
    target: Target | None = None

    @property
    def ratio(self) -> float | None:
        """The pool's value as a part of the bare one."""
        return None if self.bare is None else self.pool / self.bare

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if there is none."""
        if self.target is None:
            return None
        value = self.pool if self.target.of == "value" else self.ratio
        if value is None:
            return None
        bound = self.target.bound
        return value >= bound if self.target.side == "at least" else value <= bound


class Sides(Struct, Generic[T], frozen=True):
    """What was found on both sides, a figure a round."""

    pool: list[T]
    bare: list[T]

    def row(
        self, what: str, unit: str, of: Callable[[T], float], target: Target | None = None
    ) -> Row:
        """The medians of one number of the figures."""
        pool, bare = (median(map(of, figures)) for figures in (self.pool, self.bare))
        return Row(what=what, unit=unit, pool=pool, bare=bare, target=target)


def alternate(rounds: int, *, pool: Callable[[], T], bare: Callable[[], T]) -> Sides[T]:
    """Take a figure of each side a round; who is first alternates."""
    found = by_turns(rounds, {"pool": pool, "bare": bare})
    return Sides(found["pool"], found["bare"])


def by_turns(rounds: int, sides: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """Take a figure of each of any number of sides a round; every other round goes backwards."""
    found: dict[str, list[T]] = {name: [] for name in sides}
    turns = list(sides.items())
    for _ in range(rounds):
        for name, measure in turns:
            found[name].append(measure())
        turns.reverse()
    return found


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table that is also readable as it is."""
    cells = [("measured", "pool", "bare", "ratio", "target", "met"), *map(_cells, rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.what,
        f"{_number(row.pool)} {row.unit}",
        "" if row.bare is None else _number(row.bare),
        "" if row.ratio is None else f"{row.ratio:.2f}",
        _target(row),
        {None: "", True: "yes", False: "NO"}[row.met],
    )


def _target(row: Row) -> str:
    if row.target is None:
        return ""
    what = " of bare" if row.target.of == "ratio" else f" {row.unit}"
    return f"{row.target.side} {row.target.bound:g}{what}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
