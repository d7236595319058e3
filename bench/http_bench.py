"""An HTTP turn of an agent that answers at once, 64 connections, on each store.

SQLite writes a file on this machine's disk, and syncs it (`synchronous` as it is by default); Redis
shares the load's core.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Final

import msgspec

from bench import servers
from bench.http_load import Load
from bench.process import Server, report
from bench.result import Row, Sides, Target, by_turns
from bench.stores import KINDS, Kind

CONNECTIONS: Final = 64
WARM_UP_S: Final = 0.5
SECONDS: Final = 2.0
TARGETS: Final[dict[Kind, float]] = {"memory": 0.6, "SQLite": 0.4, "Redis": 0.3}


def run(rounds: int) -> list[Row]:
    """Turns a second, and the slowest in a hundred."""
    sides: dict[str, Callable[[], Load]] = {kind: partial(_on_store, kind) for kind in KINDS}
    sides["bare"] = lambda: _load(servers.bare())
    found = by_turns(rounds, sides)
    return [row for kind in KINDS for row in _rows(kind, Sides(found[kind], found["bare"]))]


def _rows(kind: Kind, sides: Sides[Load]) -> list[Row]:
    _same_answer(sides.pool[0], sides.bare[0])
    what = "HTTP turn, echo" if kind == "memory" else f"HTTP turn, echo, {kind}"
    return [
        sides.row(what, "turns/s", lambda load: load.per_second, Target(TARGETS[kind], "at least")),
        sides.row(f"{what}, p99", "ms", lambda load: load.p99_ms),
    ]


def _on_store(kind: Kind) -> Load:
    return _load(servers.pool_on(kind, "bench.agents:echo"))


def _load(server: AbstractContextManager[Server]) -> Load:
    with server as started:
        return report(
            "bench.http_load",
            *(started.port, CONNECTIONS, WARM_UP_S, SECONDS, "application/json"),
            kind=Load,
        )


def _same_answer(pool: Load, bare: Load) -> None:
    """Refuse to compare answers of different fields: the bare side must say as much."""
    said, held_against = (msgspec.json.decode(load.sample, type=dict) for load in (pool, bare))
    if said.keys() != held_against.keys() or said["output"] != held_against["output"]:
        raise RuntimeError(f"bench/bare.py must answer as the pool does: {pool.sample}")
