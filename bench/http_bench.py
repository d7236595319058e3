"""An HTTP turn of an agent that answers at once, on the memory store, 64 connections."""

from __future__ import annotations

from typing import Final

import msgspec

from bench import servers
from bench.http_load import Load
from bench.process import Server, report
from bench.result import Row, Target, alternate

CONNECTIONS: Final = 64
WARM_UP_S: Final = 0.5
SECONDS: Final = 2.0


def run(rounds: int) -> list[Row]:
    """Turns a second, and the slowest in a hundred."""
    sides = alternate(
        rounds,
        pool=lambda: _load(servers.pool("bench.agents:echo")),
        bare=lambda: _load(servers.bare()),
    )
    _same_answer(sides.pool[0], sides.bare[0])
    what, target = "HTTP turn, echo", Target(0.6, "at least")
    return [
        sides.row(what, "turns/s", lambda load: load.per_second, target),
        sides.row(f"{what}, p99", "ms", lambda load: load.p99_ms),
    ]


def _load(server: Server) -> Load:
    with server:
        return report(
            "bench.http_load",
            *(server.port, CONNECTIONS, WARM_UP_S, SECONDS, "application/json"),
            kind=Load,
        )


def _same_answer(pool: Load, bare: Load) -> None:
    """Refuse to compare answers of different fields: the bare side must say as much."""
    said, held_against = (msgspec.json.decode(load.sample, type=dict) for load in (pool, bare))
    if said.keys() != held_against.keys() or said["output"] != held_against["output"]:
        raise RuntimeError(f"bench/bare.py must answer as the pool does: {pool.sample}")
