"""An ask within one process, against a queue and a future: of one caller, and of a hundred.

Those of a hundred on each store; on SQLite also with `synchronous` normal, which survives the death
of the process, but not of the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from bench.process import report
from bench.result import Row, Sides, Target, by_turns
from bench.stores import Kind, place

SECONDS: Final = 1.0
MANY: Final = 100
# what is measured with many callers: the store, and how else than by default
VARIANTS: Final[dict[str, tuple[Kind, tuple[str, ...]]]] = {
    "": ("memory", ()),
    ", SQLite": ("SQLite", ()),
    ", SQLite, normal": ("SQLite", ("normal",)),
    ", Redis": ("Redis", ()),
}


def run(rounds: int) -> list[Row]:
    """Asks a second."""
    return [
        *_rows(rounds, 1, {"": VARIANTS[""]}),
        *_rows(rounds, MANY, VARIANTS, Target(0.2, "at least")),
    ]


def _rows(
    rounds: int,
    callers: int,
    variants: dict[str, tuple[Kind, tuple[str, ...]]],
    target: Target | None = None,
) -> list[Row]:
    """A row for each variant; the target is that of the memory store."""
    sides: dict[str, Callable[[], float]] = {
        name: partial(_on_store, callers, *variant) for name, variant in variants.items()
    }
    found = by_turns(rounds, {**sides, "bare": lambda: _asks(callers, "bare")})
    return [
        Sides(found[name], found["bare"]).row(
            f"ask in process, {callers} callers{name}", "asks/s", float, None if name else target
        )
        for name in variants
    ]


def _on_store(callers: int, kind: Kind, how: tuple[str, ...]) -> float:
    with place(kind) as at:
        return _asks(callers, at, *how)


def _asks(callers: int, side: str, *how: str) -> float:
    return report("bench.ask", side, callers, SECONDS, *how, kind=float, role=0)
